//go:build linux

package integration

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/integration/relay"
)

// TestMakeRefusedByServer says what the server said and what to do, and leaves
// nothing.
func TestMakeRefusedByServer(t *testing.T) {
	d := newDisk(t, 100_000)
	tests := []struct {
		name  string
		start func(t *testing.T) (*nginx, string)
		wants []string
	}{
		{"for reading", func(t *testing.T) (*nginx, string) {
			dir := t.TempDir()
			return startNginx(t, dir, false), dir
		}, []string{"405 Method Not Allowed", "for reading only", "copy that to the server"}},
		{"unknown", func(t *testing.T) (*nginx, string) { return startShelf(t, false, basicAuth(t)...) },
			[]string{"401 Unauthorized", "user:password@"}},
		{"forbidden", func(t *testing.T) (*nginx, string) {
			return startShelf(t, false, "location / { limit_except GET { deny all; } }")
		}, []string{"403 Forbidden"}},
		{"too large", func(t *testing.T) (*nginx, string) {
			dir := t.TempDir()
			return startNginx(t, dir, false, "dav_methods PUT;", "create_full_put_path on;", "client_max_body_size 1k;"), dir
		}, []string{"413 Request Entity Too Large", "client_max_body_size"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, dir := tt.start(t)
			began := time.Now()
			complaint(t, run(t, caravel, "make", "--chunk-size=4K", n.url+"/d/x.caibx", d.image), append(tt.wants, n.url+"/d/default.castr/")...)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("takes %v to say so", took)
			}
			clean(t, dir)
			// With the chunks here, it is the index that is refused.
			complaint(t, run(t, caravel, "make", "--chunk-size=4K", "--store="+filepath.Join(t.TempDir(), "st.castr"), n.url+"/d/x.caibx", d.image), append(tt.wants, n.url+"/d/x.caibx")...)
			clean(t, dir)
		})
	}
}

// TestMakeToFullServer has the server's disk fill up: no index, and no chunk that is
// not what its name says; with room again, the same command goes on.
func TestMakeToFullServer(t *testing.T) {
	d := newDisk(t, 4<<20)
	disk := smallDisk(t, 2<<20)
	dir := filepath.Join(disk, "www")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// On another disk than the files', nginx leaves there what it had no room for,
	// under names that are no chunk's.
	n, _ := startShelfIn(t, dir, false, "client_body_temp_path "+disk+"/temp;")
	t.Cleanup(func() { n.stop(syscall.SIGTERM) }) // before the disk goes
	url := n.url + "/x.caibx"
	make := []string{"make", "--chunk-size=4K", "--timeout=2s", url, d.image}
	complaint(t, run(t, caravel, make...), "500 Internal Server Error", n.url+"/default.castr/")
	absent(t, filepath.Join(dir, "x.caibx"))
	full := readBack(t, filepath.Join(dir, "default.castr"))
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=33554432"); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, make...)
	holds(t, filepath.Join(dir, "x.caibx"), read(t, d.index))
	if got := readBack(t, filepath.Join(dir, "default.castr")); full == 0 || got <= full {
		t.Errorf("%d chunks on the full disk, %d at last", full, got)
	}
	clean(t, dir, "x.caibx")
}

// lined puts a line before a server.
func (n *nginx) lined(t *testing.T, opt relay.Options) (r *relay.Relay, url string) {
	t.Helper()
	r, err := relay.Start(strings.TrimPrefix(n.url, "http://"), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, "http://" + r.Addr()
}

// TestMakeOverBrokenLine cuts all connections again and again, most of them in the
// middle of a PUT, of which nothing is to be seen in the end.
func TestMakeOverBrokenLine(t *testing.T) {
	d := newDisk(t, 2<<20, "--no-store")
	n, dir := startShelf(t, false)
	line, url := n.lined(t, relay.Options{RTT: 4 * time.Millisecond, Up: 1 << 20})
	over, cuts := make(chan struct{}), 0
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(150 * time.Millisecond):
				line.Cut()
				cuts++
			}
		}
	})
	r := run(t, caravel, "make", "--chunk-size=4K", url+"/x.caibx", d.image)
	close(over)
	cutting.Wait()
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	holds(t, filepath.Join(dir, "x.caibx"), read(t, d.index))
	chunks := readBack(t, filepath.Join(dir, "default.castr"))
	clean(t, dir, "x.caibx")
	holdsFrom(t, n.url+"/x.caibx", d)
	t.Logf("%d chunks in spite of %d cuts", chunks, cuts)
	if cuts < 3 {
		t.Errorf("cut %d times only", cuts)
	}
}

// holdsFrom reads an image back from a server.
func holdsFrom(t *testing.T, url string, d *disk) {
	t.Helper()
	if got := must(t, caravel, "cat", url); got != string(d.data) {
		t.Errorf("%s: wrong bytes", url)
	}
}

// TestMakeByMany makes the same image in the same place by several.
func TestMakeByMany(t *testing.T) {
	d := newDisk(t, 2<<20, "--no-store")
	n, dir := startShelf(t, false)
	var makers sync.WaitGroup
	for range 3 {
		makers.Go(func() {
			if r := run(t, caravel, "make", "--chunk-size=4K", n.url+"/x.caibx", d.image); r.status != 0 {
				t.Errorf("status %d: %s", r.status, r.stderr)
			}
		})
	}
	makers.Wait()
	holds(t, filepath.Join(dir, "x.caibx"), read(t, d.index))
	readBack(t, filepath.Join(dir, "default.castr"))
	clean(t, dir, "x.caibx")
	holdsFrom(t, n.url+"/x.caibx", d)
}

// begun is closed when a server has put away so many files.
func (n *nginx) begun(files int) <-chan struct{} {
	begun := make(chan struct{})
	go func() {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if b, err := os.ReadFile(n.log); err == nil && strings.Count(string(b), " 201 PUT ") >= files {
				break
			}
		}
		close(begun)
	}()
	return begun
}

// TestMakeEndsEarly interrupts and kills make while it writes to a server: there is no
// index, every chunk that has a name is good, and the next run ends as if nothing had
// been.
func TestMakeEndsEarly(t *testing.T) {
	d := newDisk(t, 2<<20, "--no-store")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			for range times(2, 30) {
				n, dir := startShelf(t, false)
				_, url := n.lined(t, relay.Options{RTT: 10 * time.Millisecond, Up: 500_000})
				e := interrupt(t, sig, n.begun(1+rand.IntN(300)), "make", "--chunk-size=4K", url+"/x.caibx", d.image)
				switch {
				case sig == syscall.SIGKILL && e.signal != sig, sig != syscall.SIGKILL && e.status != 1:
					t.Errorf("ended with status %d, by %v: %s", e.status, e.signal, e.stderr)
				case e.took > 5*time.Second:
					t.Errorf("takes %v to end", e.took)
				}
				absent(t, filepath.Join(dir, "x.caibx"))
				some := readBack(t, filepath.Join(dir, "default.castr"))
				must(t, caravel, "make", "--chunk-size=4K", n.url+"/x.caibx", d.image)
				holds(t, filepath.Join(dir, "x.caibx"), read(t, d.index))
				if all := readBack(t, filepath.Join(dir, "default.castr")); some == 0 || some >= all {
					t.Errorf("%d chunks before, %d after", some, all)
				}
				clean(t, dir, "x.caibx")
				n.stop(syscall.SIGTERM)
			}
		})
	}
}

// TestMakeKeepsManyInFlight fills a long line: what takes two round trips for each
// chunk, one after the other, takes a fraction of that, in little memory. A chunk that
// repeats is asked for once.
func TestMakeKeepsManyInFlight(t *testing.T) {
	const rtt = 50 * time.Millisecond
	d := newDisk(t, 4<<20)
	chunks := len(d.chunks(t))
	n, dir := startShelf(t, false)
	line, url := n.lined(t, relay.Options{RTT: rtt})
	began := time.Now()
	must(t, caravel, "make", "--chunk-size=4K", url+"/x.caibx", d.image)
	took, oneByOne := time.Since(began), time.Duration(2*chunks)*rtt
	if peak := line.Counts().Peak; peak < 32 || took > oneByOne/8 {
		t.Errorf("%d chunks in %v over %d connections; one by one %v", chunks, took, peak, oneByOne)
	}
	readBack(t, filepath.Join(dir, "default.castr"))
	t.Logf("%d chunks in %v, one by one it is %v", chunks, took, oneByOne)

	sparse := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(sparse, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 64<<20); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(string(read(t, n.log)), "\n")
	must(t, caravel, "make", "--chunk-size=4K", n.url+"/sparse.caibx", sparse)
	if asked := strings.Count(string(read(t, n.log)), "\n") - before; asked > 10 {
		t.Errorf("of one chunk, 4,096 times, it asked %d times", asked)
	}
}
