//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/integration/relay"
	"caravel/store"
	"caravel/store/local"
)

// aged gives a file a time that is some hours ago.
func aged(t *testing.T, path string, hours int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(hours) * time.Hour)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// tagging are the ways in which nginx tells the versions of a file apart.
var tagging = map[string]string{"by tags": "etag on;", "by dates": "etag off;"}

// answered is what was asked of the server since the last call, once it is as
// much as it should be, sorted.
func (n *nginx) answered(want int) (all []string) {
	n.t.Helper()
	eventually(n.t, "the server has answered so often", func() bool {
		return bytes.Count(read(n.t, n.log), []byte("\n")) >= n.seen+want
	})
	lines := slices.Collect(strings.Lines(string(read(n.t, n.log))))
	for _, line := range lines[n.seen:] {
		f := strings.Fields(line) // see nginxConf
		all = append(all, f[1]+" "+f[3])
	}
	n.seen = len(lines)
	slices.Sort(all)
	return all
}

// TestNginxAgain opens the same image again and again, which costs a request
// that is answered with 304, and another one in its place, which costs that one.
func TestNginxAgain(t *testing.T) {
	for name, directive := range tagging {
		t.Run(name, func(t *testing.T) {
			p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
			aged(t, p.index, 3)
			n, cache := startNginx(t, p.dir, false, directive), t.TempDir()
			list := func(want string, asked ...string) {
				t.Helper()
				if text := n.must("list", "--cache-dir", cache, n.url+"/tree.caidx"); !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
				if got := n.answered(len(asked)); !slices.Equal(got, asked) {
					t.Errorf("was asked %q, want %q", got, asked)
				}
			}
			list("large\n", "200 /tree.caidx", "200 /tree.caidx.tree")
			list("large\n", "304 /tree.caidx")
			list("large\n", "304 /tree.caidx")

			if err := os.Rename(p.source+"/large", p.source+"/other"); err != nil {
				t.Fatal(err)
			}
			must(t, caravel, "make", "--chunk-size=64K", p.index, p.source)
			aged(t, p.index, 2)
			list("other\n", "200 /tree.caidx", "200 /tree.caidx.tree")
			list("other\n", "304 /tree.caidx")

			// Touched, it is the same index: its names are known.
			aged(t, p.index, 1)
			list("other\n", "200 /tree.caidx")
			list("other\n", "304 /tree.caidx")

			needFUSE(t)
			m, dir := mountedTree(t, "--no-sweep", "--profile=none", "--cache-dir", cache, n.url+"/tree.caidx")
			must(t, "ls", "-lR", dir)
			m.ends(syscall.SIGTERM, soon)
			if got := n.answered(1); !slices.Equal(got, []string{"304 /tree.caidx"}) {
				t.Errorf("to be mounted, was asked %q", got)
			}
		})
	}
}

// manyRows makes the index of an image that is the same chunk again and again,
// one large enough to be read by ranges, and puts the chunk into a store.
func manyRows(t *testing.T, chunk []byte, path, dir string) {
	t.Helper()
	w, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewChunk(chunker.SHA512_256.Sum(chunk), chunker.SHA512_256, chunk, nil)
	if err := w.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 16, Avg: 64, Max: 1 << 16})
	for range 200_000 { // 8 MB
		if err := b.Append(c.ID(), len(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if _, err := b.Index().WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNginxExchanges an index while it is read by ranges: what is read is of the
// one that was mounted, or an error that says why, and the next mount shows the
// other one.
func TestNginxExchanges(t *testing.T) {
	for name, directive := range tagging {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			chunks := [2][]byte{bytes.Repeat([]byte("before. "), 64), bytes.Repeat([]byte("behind. "), 64)}
			for i, chunk := range chunks {
				path := filepath.Join(dir, fmt.Sprint(i))
				manyRows(t, chunk, path, filepath.Join(dir, "default.castr"))
				aged(t, path, 2-i)
			}
			exchange := func(i int) {
				t.Helper()
				if err := os.Rename(filepath.Join(dir, fmt.Sprint(i)), filepath.Join(dir, "disk.caibx")); err != nil {
					t.Fatal(err)
				}
			}
			exchange(0)
			n := startNginx(t, dir, false, directive)
			// The index takes some seconds, of which it takes one to mount it.
			line, err := relay.Start(strings.TrimPrefix(n.url, "http://"), relay.Options{Down: 2e6})
			if err != nil {
				t.Fatal(err)
			}
			defer line.Close()
			args := []string{"--memory=1M", "--cache-dir", t.TempDir(), "http://" + line.Addr() + "/disk.caibx"}
			m, file := mounted(t, append(args, t.TempDir())...)
			line.SetRates(0, 100_000)
			exchange(1)
			line.SetRates(0, 0)
			failed := 0
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			const size = 200_000 * 512
			for off := int64(0); off < size; off += size / 16 {
				got := make([]byte, 4096)
				switch _, err := f.ReadAt(got, off); {
				case isEIO(err):
					failed++
				case err != nil || !bytes.Equal(got, bytes.Repeat(chunks[0], 8)):
					t.Errorf("at %d: %q..., %v", off, got[:16], err)
				}
			}
			f.Close()
			m.ends(syscall.SIGTERM, soon)
			said := m.stderr.String()
			if failed == 0 || !strings.Contains(said, "changed") || !strings.Contains(said, "open it again") {
				t.Errorf("%d reads failed, and it says %q", failed, said)
			}

			m, file = mounted(t, append(args, t.TempDir())...)
			holds(t, file, bytes.Repeat(chunks[1], 200_000))
			m.ends(syscall.SIGTERM, soon)
			if said := m.stderr.String(); said != "" {
				t.Errorf("says %s", said)
			}
		})
	}
}
