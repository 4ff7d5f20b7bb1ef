//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

	stop := readAlways(t, func() error { return readSomewhere(image, d.data) })
	eventually(t, "the first store is asked", func() bool { return first.Counts().Requests > 20 })
	for i, to := range []*origin.Origin{second, first, second} {
		storeFile(t, file, "", to.URL()+"/default.castr")
		before := to.Counts().Requests
		m.hup()
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
		m.hup()
		m.says("store file is not taken", i+1)
		eventually(t, "the store that was there is still asked", func() bool { return second.Counts().Requests > before+20 })
	}
	stop()
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

// TestStoreFileServers exchanges the stores of a server while sixteen read from it: the
// one that they were at dies, its place is taken, and nobody notices. A broken file
// changes nothing.
func TestStoreFileServers(t *testing.T) {
	d := newDisk(t, 3_000_000)
	pieces := d.chunks(t)
	slow := origin.Options{RTT: 5 * time.Millisecond}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"chunk-server", []string{"chunk-server"}},
		{"serve", []string{"serve", t.TempDir()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, err := origin.Start(d.dir, slow)
			if err != nil {
				t.Fatal(err)
			}
			second := serveDir(t, d.dir, slow)
			file := filepath.Join(t.TempDir(), "stores.json")
			storeFile(t, file, "", first.URL()+"/default.castr")
			s, url := startServer(t, append(tt.args, "--store-file", file)...)
			stop := readAlways(t, func() error {
				p := pieces[rand.IntN(len(pieces))]
				resp, b := answered(t, "GET", p.file(strings.TrimSuffix(url, "/")), nil)
				if resp.StatusCode != 200 || !bytes.Equal(b, read(t, p.file(d.store))) {
					return fmt.Errorf("%s: %d, %d bytes", resp.Request.URL, resp.StatusCode, len(b))
				}
				return nil
			})
			eventually(t, "the first store is asked", func() bool { return first.Counts().Requests > 20 })
			for i, to := range []*origin.Origin{second, first, second} {
				storeFile(t, file, "", to.URL()+"/default.castr")
				before := to.Counts().Requests
				s.hup()
				s.says("stores are exchanged", i+1)
				eventually(t, "the other store is asked", func() bool { return to.Counts().Requests > before+20 })
			}
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			for i, broken := range []string{`{"stores": ["/a"`, `{"store": []}`, `{"stores": ["/no/such/store"]}`} {
				put(t, file, []byte(broken))
				before := second.Counts().Requests
				s.hup()
				s.says("store file is not taken", i+1)
				eventually(t, "the store that was there is still asked", func() bool { return second.Counts().Requests > before+20 })
			}
			// And folders, which are not asked by way of the store.
			storeFile(t, file, "", d.store)
			s.hup()
			s.says("stores are exchanged", 4)
			stop() // what they had begun to ask the former store for has come
			before := second.Counts().Requests
			for _, p := range pieces {
				if resp, _ := answered(t, "GET", p.file(strings.TrimSuffix(url, "/")), nil); resp.StatusCode != 200 {
					t.Errorf("%d", resp.StatusCode)
				}
			}
			if n := second.Counts().Requests; n != before {
				t.Errorf("the former store is asked for %d", n-before)
			}
			if status := s.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("status %d: %s", status, s.stderr)
			}
		})
	}
}

// hup tells a daemon to read its store file again.
func (d *daemon) hup() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
}

// readAlways has sixteen read until stop.
func readAlways(t *testing.T, once func() error) (stop func()) {
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
				if err := once(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { close(done); readers.Wait() }
}

// TestStoreFileWritten has what clients bring go where the file says, and nothing be
// taken of a file that names more than one store.
func TestStoreFileWritten(t *testing.T) {
	d := newDisk(t, 300_000)
	p := d.chunks(t)[0]
	file, a, b := filepath.Join(t.TempDir(), "stores.json"), d.path("a.castr"), d.path("b.castr")
	storeFile(t, file, "", a)
	s, url := startServer(t, "chunk-server", "--store-file", file, "--writable")
	bring := func(to string) {
		t.Helper()
		if resp, text := answered(t, "PUT", p.file(strings.TrimSuffix(url, "/")), bytes.NewReader(read(t, p.file(d.store)))); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
		if !bytes.Equal(read(t, p.file(to)), read(t, p.file(d.store))) {
			t.Errorf("it is not in %s", to)
		}
	}
	bring(a)
	storeFile(t, file, "", b)
	s.hup()
	s.says("stores are exchanged", 1)
	bring(b)
	storeFile(t, file, "", a, b)
	s.hup()
	s.says("--writable is for one store", 1)
	bring(b)
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, s.stderr)
	}
	clean(t, a)
	clean(t, b)
}

// TestStoreFileIndexes serves the indexes of the folder that the file names.
func TestStoreFileIndexes(t *testing.T) {
	a, b := newDisk(t, 100_000), newDisk(t, 200_000)
	file := filepath.Join(t.TempDir(), "stores.json")
	storeFile(t, file, "", a.dir)
	s, url := startServer(t, "index-server", "--store-file", file)
	index := url + filepath.Base(a.index)
	stop := readAlways(t, func() error {
		resp, got := answered(t, "GET", index, nil)
		if resp.StatusCode != 200 || !bytes.Equal(got, read(t, a.index)) && !bytes.Equal(got, read(t, b.index)) {
			return fmt.Errorf("%d, %d bytes", resp.StatusCode, len(got))
		}
		return nil
	})
	for i, to := range []*disk{b, a, b} {
		storeFile(t, file, "", to.dir)
		s.hup()
		s.says("stores are exchanged", i+1)
		if _, got := answered(t, "GET", index, nil); !bytes.Equal(got, read(t, to.index)) {
			t.Errorf("not that of %s", to.dir)
		}
	}
	for i, broken := range []string{`{"stores": [`, `{"stores": ["/a", "/b"]}`, `{"stores": ["nothing://here"]}`} {
		put(t, file, []byte(broken))
		s.hup()
		s.says("store file is not taken", i+1)
		if _, got := answered(t, "GET", index, nil); !bytes.Equal(got, read(t, b.index)) {
			t.Error("the folder that was there is not served any more")
		}
	}
	stop()
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, s.stderr)
	}
}

// TestStoreFileDevice has a device go on at another store when the one that it was at
// has died.
func TestStoreFileDevice(t *testing.T) {
	needLoop(t)
	d := newDisk(t, 4<<20)
	first, err := origin.Start(d.dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	second := serveDir(t, d.dir, origin.Options{})
	file := filepath.Join(t.TempDir(), "stores.json")
	storeFile(t, file, "", first.URL()+"/default.castr")
	s, device := attached(t, "--via=loop", "--no-sweep", "--store-file", file, d.index)
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(d.data))
	if _, err := f.ReadAt(got[:1<<20], 0); err != nil {
		t.Fatal(err)
	}
	storeFile(t, file, "", second.URL()+"/default.castr")
	s.hup()
	s.says("stores are exchanged", 1)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.ReadAt(got[1<<20:], 1<<20); err != nil || !bytes.Equal(got, d.data) {
		t.Errorf("wrong bytes, or %v", err)
	}
	if second.Counts().Requests == 0 {
		t.Error("the other store is not asked")
	}
	f.Close()
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, s.stderr)
	}
}
