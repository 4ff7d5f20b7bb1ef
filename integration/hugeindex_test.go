//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/open"
)

// hugeIndex makes an image of many small chunks, of which there are few kinds,
// and so with an index of 4.8 MB. It returns what the image holds.
func hugeIndex(t *testing.T, dir string) []byte {
	t.Helper()
	const rows, size, kinds = 120_000, 512, 16
	w, err := open.Writer(filepath.Join(dir, "default.castr"), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 64, Avg: 512, Max: 4096})
	var image []byte
	for i := range rows {
		plain := bytes.Repeat(fmt.Appendf(nil, "%7d ", i%kinds), size/8)
		id := chunker.SHA512_256.Sum(plain)
		if i < kinds {
			c := store.NewChunk(id, chunker.SHA512_256, plain, nil)
			if err := w.Put(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			c.Release()
		}
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
		image = append(image, plain...)
	}
	var file bytes.Buffer
	if _, err := b.Index().WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disk.caibx"), file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return image
}

// slowly serves a folder, of whose index no more than the first three answers come
// while silent is true.
func slowly(t *testing.T, dir string, asked *atomic.Int64, silent *atomic.Bool) *origin.Origin {
	t.Helper()
	return serveDir(t, dir, origin.Options{Faults: func(_ int64, path string) origin.Fault {
		if path == "/disk.caibx" && asked.Add(1) > 3 && silent.Load() {
			return origin.Fault{Kind: origin.Hang}
		}
		return origin.Fault{}
	}})
}

// TestCatOfAHugeIndex prints parts of an image whose index does not come to its end,
// and keeps nothing on its word; of one that does come, what is asked for.
func TestCatOfAHugeIndex(t *testing.T) {
	dir := t.TempDir()
	data := hugeIndex(t, dir)
	var asked atomic.Int64
	var silent atomic.Bool
	o := slowly(t, dir, &asked, &silent)
	silent.Store(true)
	cache := t.TempDir()
	for _, part := range []struct{ off, n int }{{0, 1}, {1000, 5000}, {30 << 20, 4096}, {len(data) - 10, 0}} {
		asked.Store(0)
		args := []string{"cat", fmt.Sprintf("--offset=%d", part.off), fmt.Sprintf("--length=%d", part.n), "--cache-dir", cache, o.URL() + "/disk.caibx"}
		got := within(t, 20*time.Second, args...)
		want := data[part.off:]
		if part.n > 0 {
			want = want[:part.n]
		}
		if got.status != 0 || got.stdout != string(want) {
			t.Errorf("%v: status %d, %d bytes, %s", args, got.status, len(got.stdout), got.stderr)
		}
	}
	if kept, err := filepath.Glob(cache + "/*/*/*"); err != nil || len(kept) > 0 {
		t.Errorf("with a part of the index %v is kept, %v", kept, err)
	}
	silent.Store(false)
	const last = 8 << 20
	for _, dir := range []string{"none", cache} {
		asked.Store(0)
		end := must(t, caravel, "cat", fmt.Sprintf("--offset=%d", len(data)-last), "--cache-dir", dir, o.URL()+"/disk.caibx")
		if end != string(data[len(data)-last:]) {
			t.Errorf("the end: %d bytes, not the %d that belong there", len(end), last)
		}
		if n := asked.Load(); dir == "none" && n > 5 { // the ends, and what lies in three blocks of 19
			t.Errorf("%d requests for an index on whose word nothing is kept", n)
		}
	}
	if kept, err := filepath.Glob(cache + "/*/*/*"); err != nil || len(kept) == 0 {
		t.Errorf("with all of the index nothing is kept, %v", err)
	}
}

// TestHugeIndex reads an image whose index is not here yet, and keeps nothing on
// disk until it is.
func TestHugeIndex(t *testing.T) {
	dir := t.TempDir()
	data := hugeIndex(t, dir)
	var asked atomic.Int64
	var silent atomic.Bool
	o := slowly(t, dir, &asked, &silent)
	cache, stats := t.TempDir(), filepath.Join(dir, "stats.json")
	args := []string{"--cache-dir", cache, "--stats-file", stats, "--record", filepath.Join(dir, "recorded"), o.URL() + "/disk.caibx"}

	silent.Store(true)
	m, file := mounted(t, append(args, t.TempDir())...)
	readsAt(t, file, data, 0, 1<<20, 5<<20)
	if status := m.stop(syscall.SIGTERM); status != 1 || !strings.Contains(m.stderr.String(), "nothing is recorded") {
		t.Errorf("status %d, %s", status, m.stderr)
	}
	absent(t, filepath.Join(dir, "recorded"))
	if s := statsOf(t, stats); s.Images[0].WholeIndex || s.Disk.Kept != 0 {
		t.Errorf("with a part of the index: %+v", s)
	}
	if kept, err := filepath.Glob(cache + "/*/*/*"); err != nil || len(kept) > 0 {
		t.Errorf("with a part of the index %v is kept, %v", kept, err)
	}

	silent.Store(false)
	asked.Store(0)
	m, file = mounted(t, append(args, t.TempDir())...)
	holds(t, file, data)
	eventually(t, "all is kept", func() bool {
		kept, err := filepath.Glob(cache + "/chunks/*/*")
		return err == nil && len(kept) == 16
	})
	m.ends(syscall.SIGTERM, soon)
	if s := statsOf(t, stats); !s.Images[0].WholeIndex {
		t.Errorf("%+v", s.Images[0])
	}
	o.Reset()
	m, file = mounted(t, append(args, t.TempDir())...)
	holds(t, file, data)
	m.ends(syscall.SIGTERM, soon)
	if c := o.Counts(); c.Bytes != 0 {
		t.Errorf("the third time: %+v", c)
	}
}
