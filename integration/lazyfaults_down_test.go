//go:build linux

package integration

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/integration/relay"
	"caravel/internal/origin"
)

// relayed puts a line before a server that can be cut off.
func relayed(t testing.TB, o *origin.Origin, opt relay.Options) (r *relay.Relay, url string) {
	t.Helper()
	r, err := relay.Start(strings.TrimPrefix(o.URL(), "http://"), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, "http://" + r.Addr()
}

// outages are the ways in which an origin is not there.
var outages = []struct {
	name      string
	down, up  func(r *relay.Relay) error
	complains string // what is said of it
}{
	{"refused", (*relay.Relay).Refuse, (*relay.Relay).Restore, "connection refused"},
	{"silent",
		func(r *relay.Relay) error { r.SetRates(1, 1); return nil }, // a byte a second
		func(r *relay.Relay) error { r.SetRates(0, 0); return nil }, ""},
}

// A later read, which has begun.
type laterRead struct {
	got  []byte
	err  error
	done chan struct{}
}

func readLater(path string, off int64, n int) *laterRead {
	r := &laterRead{got: make([]byte, n), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		f, err := os.Open(path)
		if err != nil {
			r.err = err
			return
		}
		defer f.Close()
		_, r.err = f.ReadAt(r.got, off)
	}()
	return r
}

// TestOriginDown takes the origin away from a mounted image and from a mounted
// tree, in the middle of reads: those that have time wait, and go on when it is
// back; the others are in error, and the next ones are not.
func TestOriginDown(t *testing.T) {
	d := newDisk(t, 8<<20, "--chunk-size=64K")
	p := packTree(t, caravel, func(dir string) { random(t, dir+"/file", 8<<20) }, "--chunk-size=64K", "--no-tree")
	for _, image := range []struct {
		name, dir, index, file string
		data                   []byte
	}{
		{"disk", d.dir, "/disk.caibx", "/disk", d.data},
		{"tree", p.dir, "/tree.caidx", "/file", read(t, p.source+"/file")},
	} {
		for _, outage := range outages {
			t.Run(image.name+" "+outage.name, func(t *testing.T) {
				t.Parallel() // they wait most of the time
				r, url := relayed(t, serveDir(t, image.dir, origin.Options{}), relay.Options{})
				url += image.index
				change := func(to func(*relay.Relay) error) {
					if err := to(r); err != nil {
						t.Fatal(err)
					}
				}
				patient, dir := mountedTree(t, "--no-sweep", "--memory=1M", url)
				hasty, other := mountedTree(t, "--no-sweep", "--memory=1M", "--timeout=2s", url)
				const half = 4 << 20
				for _, file := range []string{dir + image.file, other + image.file} {
					readsAt(t, file, image.data, 0, 4096, 1<<20)
				}

				change(outage.down)
				var reads []*laterRead
				for i := range 4 {
					reads = append(reads, readLater(dir+image.file, half+int64(i)<<19, 100_000))
				}
				for range 2 {
					if r := readLater(other+image.file, half, 4096); !r.failsWithin(t, time.Minute) {
						t.Errorf("with little time: %v, want an I/O error", r.err)
					}
				}
				readsAt(t, other+image.file, image.data, 0) // it is here
				back := time.NewTimer(time.Duration(times(1, 30)) * time.Second)
				for i, r := range reads {
					select {
					case <-r.done:
						t.Errorf("read %d did not wait: %v", i, r.err)
					case <-back.C:
						back.Reset(0) // for the others
					}
				}

				change(outage.up)
				for i, r := range reads {
					waitFor(t, "the read goes on", r.done)
					if off := half + i<<19; r.err != nil || !bytes.Equal(r.got, image.data[off:off+len(r.got)]) {
						t.Errorf("read %d, when it is back: %v", i, r.err)
					}
				}
				readsAt(t, other+image.file, image.data, half)
				holds(t, other+image.file, image.data)
				holds(t, dir+image.file, image.data)
				patient.ends(syscall.SIGTERM, soon)
				hasty.ends(syscall.SIGTERM, soon)
				if said := hasty.stderr.String(); !strings.Contains(said, outage.complains) || said == "" {
					t.Errorf("does not say why: %q", said)
				}
			})
		}
	}
}

// failsWithin reports whether the read ends with an I/O error in time.
func (r *laterRead) failsWithin(t testing.TB, limit time.Duration) bool {
	t.Helper()
	select {
	case <-r.done:
		return isEIO(r.err)
	case <-time.After(limit):
		t.Fatal("the read hangs")
		return false
	}
}
