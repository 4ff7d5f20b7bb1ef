package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/internal/origin"
)

// cut makes a disk of the image that write puts at a path.
func cut(t testing.TB, write func(path string), flags ...string) *disk {
	t.Helper()
	d := &disk{dir: t.TempDir()}
	d.image, d.index, d.store = d.path("disk.img"), d.path("disk.caibx"), d.path("default.castr")
	write(d.image)
	d.data = read(t, d.image)
	must(t, caravel, append([]string{"make", "--no-sync", d.index, d.image}, flags...)...)
	return d
}

// sparseDisk makes a disk with long holes and an odd size.
func sparseDisk(t testing.TB) *disk {
	t.Helper()
	r := recipe{seed: 5, size: 6_000_003, kind: "sparse"}
	return cut(t, func(path string) { r.write(t, path) }, "--chunk-size=16K")
}

// serveDir serves a folder nearby until the end of the test.
func serveDir(t testing.TB, dir string, opt origin.Options) *origin.Origin {
	t.Helper()
	o, err := origin.Start(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// from has the nth request, and all behind it, suffer a fault, and closes a
// channel when it comes to that.
func from(nth int64, f origin.Fault) (origin.Faults, <-chan struct{}) {
	begun := make(chan struct{})
	var once sync.Once
	return func(n int64, _ string) origin.Fault {
		if n < nth {
			return origin.Fault{}
		}
		once.Do(func() { close(begun) })
		return f
	}, begun
}

// waitFor waits for what must come soon.
func waitFor(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s: not within a minute", what)
	}
}

// freePort is an address that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	return strings.TrimPrefix(deadURL(t), "http://")
}

// deadURL is a web server that refuses every connection.
func deadURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// A manager is a service manager's end of the notify protocol.
type manager struct {
	path string
	conn *net.UnixConn
}

func newManager(t testing.TB) *manager {
	t.Helper()
	path := filepath.Join(shortDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("no datagram sockets: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{path, conn}
}

// told returns the assignments of the next message.
func (m *manager) told(t testing.TB) []string {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		t.Fatalf("nothing was said: %v", err)
	}
	return strings.Split(string(b[:n]), "\n")
}

// shortDir is a folder whose path leaves room for the name of a socket, of
// which systems take about 100 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// passable lets everybody reach a test's temporary folder, below which they
// may do what its mode says.
func passable(t testing.TB, dir string) {
	t.Helper()
	for d := dir; d != filepath.Clean(os.TempDir()) && d != filepath.Dir(d); d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err == nil {
			err = os.Chmod(d, st.Mode().Perm()|0o055)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// empty checks that nothing is in a folder, but that it is there.
func empty(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%s: want it empty, holds %v, %v", dir, left, err)
	}
}

// expect waits for a line of a command that begins so, and returns the rest.
func (d *daemon) expect(prefix string) string {
	d.t.Helper()
	rest, ok := strings.CutPrefix(d.line(), prefix)
	if !ok {
		d.t.Fatalf("%v did not say %q; stderr: %s", d.cmd.Args, prefix, d.stderr)
	}
	return rest
}

// timely runs f and fails if it takes longer than limit.
func timely(t testing.TB, what string, limit time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("%s: took %v, want at most %v", what, took, limit)
	}
}

// parallel calls f at the same time n times and returns the first error.
func parallel(n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(fmt.Errorf("%d of %d: %w", i+1, n, err))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// script gives a command lines on its standard input.
func script(lines ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n") }
}

// eventually waits until something that gives no sign is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happens that %s", what)
		}
	}
}
