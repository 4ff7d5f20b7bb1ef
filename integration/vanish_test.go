//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// A site is a server of a folder that can go away and come back at the same
// address.
type site struct {
	t       testing.TB
	dir     string
	address string
	server  *http.Server
	served  atomic.Int64 // chunks
	onChunk func(n int64)
}

func newSite(t testing.TB, dir string) *site {
	s := &site{t: t, dir: dir, address: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) url() string { return "http://" + s.address }

func (s *site) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	files := http.FileServer(http.Dir(s.dir))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".cacnk") {
			if n := s.served.Add(1); s.onChunk != nil {
				s.onChunk(n)
			}
		}
		files.ServeHTTP(w, r)
	})}
	s.server = server
	go server.Serve(listener)
}

// stop drops all connections and refuses new ones.
func (s *site) stop() { _ = s.server.Close() }

// TestServerVanishes closes the server in the middle of extract and cat: an
// error within the time limit, and the next run goes on from there.
func TestServerVanishes(t *testing.T) {
	d := newDisk(t, 4<<20)
	chunks := int64(len(d.chunks(t)))
	s := newSite(t, d.dir)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	vanishAfter := func(n int64) {
		s.served.Store(0)
		s.onChunk = func(i int64) {
			if i == n {
				s.stop()
			}
		}
	}
	vanishAfter(500)
	r := within(t, 15*time.Second, "extract", "--progress=none", "--timeout=2s", s.url()+"/disk.caibx", out)
	complaint(t, r, "image: bytes ", ": chunk ", s.url(), "connection refused", "run it again to continue")
	absent(t, out)
	s.onChunk = nil
	s.served.Store(0)
	s.start()
	must(t, caravel, "extract", s.url()+"/disk.caibx", out)
	holds(t, out, d.data)
	clean(t, dir, "out")
	if again := s.served.Load(); again > chunks-500+150 {
		t.Errorf("fetched %d of %d chunks again", again, chunks)
	}

	vanishAfter(500)
	r = within(t, 15*time.Second, "cat", "--timeout=2s", s.url()+"/disk.caibx")
	complaint(t, r, "image: bytes ", "connection refused")
	if !bytes.HasPrefix(d.data, []byte(r.stdout)) {
		t.Error("cat printed other bytes")
	}
	// Nobody there from the start.
	s.onChunk = nil
	for _, args := range [][]string{{"cat"}, {"list-chunks"}, {"digest"}} {
		r := within(t, 15*time.Second, append(args, "--timeout=2s", s.url()+"/disk.caibx")...)
		complaint(t, r, s.url()+"/disk.caibx", "connection refused")
	}
}

// TestServerVanishesUnderAMount closes the server under a mount: who reads what
// is not here gets EIO in time, all else goes on, and when the server is back
// the same file reads as ever.
func TestServerVanishesUnderAMount(t *testing.T) {
	d := newDisk(t, 16<<20, "--chunk-size=64K")
	s := newSite(t, d.dir)
	m, file := mounted(t, "--timeout=2s", s.url()+"/disk.caibx", filepath.Join(t.TempDir(), "mnt"))
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const far = 12 << 20
	buf := make([]byte, 4096)
	check := func(off int64) {
		t.Helper()
		if _, err := f.ReadAt(buf, off); err != nil || !bytes.Equal(buf, d.data[off:off+4096]) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	check(0)
	s.stop()
	check(0)
	for range 2 {
		began := time.Now()
		if n, err := f.ReadAt(buf, far); !isEIO(err) {
			t.Errorf("without a server: %d bytes, %v, want EIO", n, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("EIO took %s with --timeout=2s", took)
		}
	}
	check(0)
	t.Logf("the log:\n%s", m.stderr)
	if !strings.Contains(m.stderr.String(), "connection refused") {
		t.Error("the log does not say why")
	}
	s.start()
	check(far)
	holds(t, file, d.data)
	if status := m.stop(syscall.SIGINT); status != 0 {
		t.Errorf("status %d", status)
	}
}

// serve starts an origin for the length of the test.
func serve(t testing.TB, dir string, faults origin.Faults) *origin.Origin {
	t.Helper()
	o, err := origin.Start(dir, origin.Options{Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// once makes a fault of the first request for each path.
func once(f origin.Fault) origin.Faults {
	var asked sync.Map
	return func(_ int64, path string) origin.Fault {
		if _, again := asked.LoadOrStore(path, true); again {
			return origin.Fault{}
		}
		return f
	}
}

// TestServerWithFaults reads all of an image from servers that fail now and
// then: every byte is right.
func TestServerWithFaults(t *testing.T) {
	d := newDisk(t, 2<<20)
	for name, faults := range map[string]origin.Faults{
		"503 for one in ten":    origin.Every(10, origin.Fault{Kind: origin.Answer, Status: 503}),
		"429, come again later": origin.Every(300, origin.Fault{Kind: origin.Answer, Status: 429, RetryAfter: time.Second}),
		"500 for one in five":   origin.Every(5, origin.Fault{Kind: origin.Answer, Status: 500}),
		"cut in one of five":    origin.Every(5, origin.Fault{Kind: origin.Cut, At: 60}),
		"cut at the start":      origin.Every(7, origin.Fault{Kind: origin.Cut, At: 0}),
		"flipped once":          once(origin.Fault{Kind: origin.Flip, At: 70}),
	} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, d.dir, func(n int64, path string) origin.Fault {
				if strings.HasSuffix(path, "/disk.caibx") {
					return origin.Fault{} // nothing can be said about a flipped byte there
				}
				return faults(n, path)
			})
			dir := t.TempDir()
			began := time.Now()
			r := run(t, caravel, "extract", "--progress=none", "--no-sync", o.URL()+"/disk.caibx", filepath.Join(dir, "out"))
			if r.status != 0 || r.stderr != "" {
				t.Fatalf("status %d: %s", r.status, r.stderr)
			}
			holds(t, filepath.Join(dir, "out"), d.data)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			clean(t, dir, "out")
		})
	}
}

// TestServerWithABadChunk has one chunk that is missing, forbidden or never
// right: an error that names it and its URL, or the next store's bytes.
func TestServerWithABadChunk(t *testing.T) {
	d := newDisk(t, 1<<20)
	bad := d.chunks(t)[77]
	healthy := serve(t, d.dir, nil)
	for _, tt := range []struct {
		name  string
		fault origin.Fault
		why   string
	}{
		{"missing", origin.Fault{Kind: origin.Answer, Status: 404}, "not in"},
		{"forbidden", origin.Fault{Kind: origin.Answer, Status: 403}, "403"},
		{"flipped", origin.Fault{Kind: origin.Flip, At: 90}, "digest mismatch"},
		{"cut", origin.Fault{Kind: origin.Cut, At: 50}, "EOF"},
		{"broken", origin.Fault{Kind: origin.Answer, Status: 500}, "500"},
		{"hanging", origin.Fault{Kind: origin.Hang, At: 50}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := serve(t, d.dir, func(_ int64, path string) origin.Fault {
				if path == bad.file("/default.castr") {
					return tt.fault
				}
				return origin.Fault{}
			})
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			where := bad.file(o.URL() + "/default.castr")
			if tt.fault.Status == 404 {
				where = o.URL() + "/default.castr"
			}
			r := within(t, 15*time.Second, "extract", "--progress=none", "--timeout=2s", o.URL()+"/disk.caibx", out)
			complaint(t, r, fmt.Sprintf("image: bytes %d to %d: ", bad.Start, bad.Start+bad.Size), bad.ID, where, tt.why)
			absent(t, out)

			r = within(t, 20*time.Second, "extract", "--progress=none", "--timeout=2s", "--store="+o.URL()+"/default.castr",
				"--extra-store="+healthy.URL()+"/default.castr", o.URL()+"/disk.caibx", out)
			if r.status != 0 {
				t.Fatalf("with another store: status %d: %s", r.status, r.stderr)
			}
			t.Logf("with another store it is healed, saying: %q", r.stderr)
			holds(t, out, d.data)
			clean(t, dir, "out")
		})
	}
}

// TestServerThatHangs accepts and never answers.
func TestServerThatHangs(t *testing.T) {
	d := newDisk(t, 100_000)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	url := "http://" + listener.Addr().String() + "/disk.caibx"
	for _, args := range [][]string{
		{"list-chunks", url},
		{"cat", url},
		{"cat", "--store=" + strings.TrimSuffix(url, "disk.caibx") + "default.castr", d.index},
	} {
		began := time.Now()
		complaint(t, within(t, 10*time.Second, append(args, "--timeout=2s")...), listener.Addr().String())
		if took := time.Since(began); took < time.Second {
			t.Errorf("%v: gave up after %s", args, took)
		}
	}
	// An interrupt ends the wait at once.
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for deadline.Err() == nil { // those of the runs above come first
			c, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() }) // until then it hangs
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 1000)
			if n, _ := c.Read(b); bytes.Contains(b[:n], []byte("/the-last-one.caibx")) {
				return
			}
		}
	}()
	e := interrupt(t, syscall.SIGINT, accepted, "list-chunks", "http://"+listener.Addr().String()+"/the-last-one.caibx")
	complaint(t, e.result, "interrupted")
	if e.took > time.Second {
		t.Errorf("took %s to end", e.took)
	}
}

// TestServerWithoutTheIndex answers with a status instead of an index.
func TestServerWithoutTheIndex(t *testing.T) {
	for status, why := range map[int]string{404: "404 Not Found", 403: "403 Forbidden", 500: "500 Internal Server Error", 401: "401 Unauthorized"} {
		o := serve(t, t.TempDir(), origin.Every(1, origin.Fault{Kind: origin.Answer, Status: status}))
		out := filepath.Join(t.TempDir(), "out")
		r := within(t, 10*time.Second, "extract", "--progress=none", "--timeout=1s", o.URL()+"/disk.caibx", out)
		complaint(t, r, o.URL()+"/disk.caibx", why)
		absent(t, out)
	}
}
