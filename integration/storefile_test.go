//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// storeFile writes the file of --store-file.
func storeFile(t testing.TB, path, cache string, stores ...string) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"stores": stores, "cache": cache})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// says waits until a line of the log has been written n times.
func (d *daemon) says(text string, n int) {
	d.t.Helper()
	eventually(d.t, "the log says "+text, func() bool { return strings.Count(d.stderr.String(), text) >= n })
}

// TestStoreFileUnderReaders exchanges stores while sixteen read: the one that they were
// at dies, its place is taken, and nobody notices. A broken file changes nothing.
func TestStoreFileUnderReaders(t *testing.T) {
	needFUSE(t)
	d := newDisk(t, 12_000_000)
	slow := origin.Options{RTT: 10 * time.Millisecond}
	first, err := origin.Start(d.dir, slow)
	if err != nil {
		t.Fatal(err)
	}
	second := serveDir(t, d.dir, slow)
	file, dir := filepath.Join(t.TempDir(), "stores.json"), t.TempDir()
	storeFile(t, file, "", first.URL()+"/default.castr")
	m, image := mounted(t, "--what=blob-index", "--no-sweep", "--memory=1M", "--store-file", file, d.index, dir)

	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := readSomewhere(image, d.data); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "the first store is asked", func() bool { return first.Counts().Requests > 20 })
	hup := func() {
		t.Helper()
		if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for i, to := range []*origin.Origin{second, first, second} {
		storeFile(t, file, "", to.URL()+"/default.castr")
		before := to.Counts().Requests
		hup()
		m.says("stores are exchanged", i+1)
		eventually(t, "the other store is asked", func() bool { return to.Counts().Requests > before+20 })
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	for i, broken := range []string{`{"stores": ["/a"`, `{"store": []}`, `{"stores": ["/no/such/store"]}`} {
		if err := os.WriteFile(file, []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		before := second.Counts().Requests
		hup()
		m.says("store file is not taken", i+1)
		eventually(t, "the store that was there is still asked", func() bool { return second.Counts().Requests > before+20 })
	}
	close(done)
	readers.Wait()
	if status := m.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, m.stderr)
	}
}

// readSomewhere reads a part of the file that nobody has in memory.
func readSomewhere(path string, want []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	off := rand.IntN(len(want) - 50_000)
	got := make([]byte, 50_000)
	if _, err := f.ReadAt(got, int64(off)); err != nil {
		return err
	}
	if !bytes.Equal(got, want[off:off+len(got)]) {
		return errors.New("wrong bytes")
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// TestStoreFile is read by all that run on; it names the cache, too, and stands alone.
func TestStoreFile(t *testing.T) {
	need(t, "nbdcopy")
	d := newDisk(t, 500_001)
	file, cache := filepath.Join(t.TempDir(), "stores.json"), filepath.Join(t.TempDir(), "cache.castr")
	storeFile(t, file, cache, filepath.Join(d.dir, "default.castr"))
	server := start(t, caravel, "nbd-server", "--listen", "127.0.0.1:0", "--store-file", file, d.index)
	uri := server.expect("Serving: ")
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", uri, out)
	holds(t, out, d.data)
	chunks, err := filepath.Glob(filepath.Join(cache, "*", "*.cacnk"))
	if err != nil || len(chunks) == 0 {
		t.Errorf("the cache holds %d chunks, error %v", len(chunks), err)
	}
	if err := server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	server.says("stores are exchanged", 1)
	must(t, "nbdcopy", uri, out)
	holds(t, out, d.data)
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	for _, more := range [][]string{{"-s", d.store}, {"-c", cache}, {"--extra-store", d.store}} {
		r := run(t, caravel, append([]string{"nbd-server", "--store-file", file, d.index}, more...)...)
		if r.status != 2 || !strings.Contains(r.stderr, "--store-file names the stores and the cache") {
			t.Errorf("%v: status %d, %s", more, r.status, r.stderr)
		}
	}
}
