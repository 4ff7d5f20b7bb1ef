//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A pool is a store of two disks, the second of which nobody needs any more, and of a
// tree.
type prunePool struct {
	dir, store   string
	kept, gone   string // indexes
	tree         string
	keptN, all   int // chunks
	image, tree0 string
}

func newPrunePool(t *testing.T) prunePool {
	t.Helper()
	p := prunePool{dir: t.TempDir()}
	at := func(name string) string { return filepath.Join(p.dir, name) }
	p.store, p.kept, p.gone, p.tree = at("default.castr"), at("kept.caibx"), at("gone.caibx"), at("tree/tree.caidx")
	p.image, p.tree0 = at("disk.img"), at("source")
	random(t, p.image, 300_000)
	random(t, at("other.img"), 310_000) // the size is the seed, too
	for _, dir := range []string{p.tree0, filepath.Dir(p.tree)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	smallFiles(t)(p.tree0)
	must(t, caravel, "make", "--chunk-size=4K", p.kept, p.image)
	must(t, caravel, "make", "--store="+p.store, p.tree, p.tree0)
	p.keptN = readBack(t, p.store)
	must(t, caravel, "make", "--chunk-size=4K", p.gone, at("other.img"))
	if p.all = readBack(t, p.store); p.all < p.keptN+50 {
		t.Fatalf("%d chunks, %d of which are kept", p.all, p.keptN)
	}
	return p
}

// old has all that is in the store be of last week.
func (p prunePool) old(t *testing.T) {
	t.Helper()
	must(t, "find", p.store, "-type", "f", "-exec", "touch", "-d", "last week", "{}", "+")
}

// TestPrune removes what no image needs, and nothing else.
func TestPrune(t *testing.T) {
	need(t, "casync")
	p := newPrunePool(t)
	foreign := filepath.Join(p.store, "README")
	if err := os.WriteFile(foreign, []byte("not a chunk"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, caravel, "prune", "-s", p.store, p.kept, p.tree)
	if r.status != 2 || !strings.Contains(r.stderr, "say --yes") {
		t.Errorf("without --yes: status %d, %s", r.status, r.stderr)
	}
	if r := run(t, caravel, "prune", "--yes", "-s", p.store); r.status != 2 {
		t.Errorf("without an index: status %d, %s", r.status, r.stderr)
	}
	complaint(t, run(t, caravel, "prune", "--yes", "-s", p.store, p.kept, filepath.Join(p.dir, "nothing.caibx")), "nothing is removed")
	prune := func(args ...string) (got struct{ Kept, Young, Removed, Bytes int64 }) {
		t.Helper()
		out := must(t, caravel, append([]string{"prune", "--yes", "--json", "-s", p.store}, args...)...)
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := prune(p.kept, p.tree); got.Removed != 0 || got.Young != int64(p.all-p.keptN) {
		t.Errorf("of what is young: %+v", got)
	}
	p.old(t)
	listed := must(t, caravel, "gc", "-n", "--store="+p.store, p.kept, p.tree)
	if n := strings.Count(listed, ".cacnk\n"); n != p.all-p.keptN || readBackBut(t, p.store, "README") != p.all {
		t.Errorf("gc -n lists %d, want %d", n, p.all-p.keptN)
	}
	theirs := filepath.Join(t.TempDir(), "theirs.castr")
	must(t, "cp", "-a", p.store, theirs)
	if err := os.Remove(filepath.Join(theirs, "README")); err != nil { // which casync gives up at
		t.Fatal(err)
	}
	must(t, "casync", "gc", "--store="+theirs, p.kept, p.tree)
	if got := prune(p.kept, filepath.Dir(p.tree)); got.Removed != int64(p.all-p.keptN) || got.Kept != int64(p.keptN) || got.Young != 0 {
		t.Errorf("%+v, want %d of %d removed", got, p.all-p.keptN, p.all)
	}
	if err := os.Remove(foreign); err != nil {
		t.Errorf("what is no chunk is gone: %v", err)
	}
	if n := readBack(t, p.store); n != p.keptN {
		t.Errorf("%d chunks are left, want %d", n, p.keptN)
	}
	must(t, "diff", "-r", p.store, theirs)
	if got := must(t, caravel, "cat", p.kept); got != string(read(t, p.image)) {
		t.Error("the disk that was to be kept is not")
	}
	must(t, "casync", "digest", "--store="+p.store, p.tree)
	must(t, caravel, "verify", "-s", p.store)
}

// readBackBut is readBack in spite of a file that is no chunk.
func readBackBut(t testing.TB, dir, foreign string) int {
	t.Helper()
	aside := filepath.Join(t.TempDir(), foreign)
	if err := os.Rename(filepath.Join(dir, foreign), aside); err != nil {
		t.Fatal(err)
	}
	n := readBack(t, dir)
	if err := os.Rename(aside, filepath.Join(dir, foreign)); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPruneFar prunes stores behind a network.
func TestPruneFar(t *testing.T) {
	s3Env(t)
	s := startS3(t)
	startFar(t)
	for name, url := range map[string]string{"s3": s.bucket(t), "sftp": "sftp://far" + t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			p := newPrunePool(t)
			for _, x := range []string{p.kept, p.gone} {
				must(t, caravel, "copy", x, url+"/")
			}
			r := run(t, caravel, "gc", "--age=0", "--json", "-s", url+"/default.castr", url+"/kept.caibx")
			gone := p.all - p.keptN
			if r.status != 0 || !strings.Contains(r.stdout, fmt.Sprintf(`"removed":%d,`, gone)) {
				t.Fatalf("status %d, %s %s", r.status, r.stdout, r.stderr)
			}
			if got := must(t, caravel, "cat", url+"/kept.caibx"); got != string(read(t, p.image)) {
				t.Error("the disk that was to be kept is not")
			}
			must(t, caravel, "verify", "-s", url+"/default.castr")
		})
	}
}

// TestPruneBesideMakers has two makers and prunes at one store, in which all is old: each
// image is whole in the end.
func TestPruneBesideMakers(t *testing.T) {
	p := newPrunePool(t)
	for range times(3, 30) {
		p.old(t)
		var all sync.WaitGroup
		for i, in := range []string{filepath.Join(p.dir, "other.img"), p.image} {
			all.Go(func() {
				x := filepath.Join(p.dir, fmt.Sprintf("again%d.caibx", i))
				if r := run(t, caravel, "make", "--chunk-size=4K", "--store="+p.store, x, in); r.status != 0 {
					t.Errorf("make: status %d: %s", r.status, r.stderr)
				}
			})
		}
		for range 3 {
			all.Go(func() {
				if r := run(t, caravel, "gc", "-s", p.store, p.tree); r.status != 0 {
					t.Errorf("gc: status %d: %s", r.status, r.stderr)
				}
			})
		}
		all.Wait()
		for i, in := range []string{filepath.Join(p.dir, "other.img"), p.image} {
			if got := run(t, caravel, "cat", "--store="+p.store, filepath.Join(p.dir, fmt.Sprintf("again%d.caibx", i))); got.stdout != string(read(t, in)) {
				t.Fatalf("not whole: %s", got.stderr)
			}
		}
	}
}

// TestPruneEndsEarly ends prunes at any time: what is needed is there, and the next one
// finishes.
func TestPruneEndsEarly(t *testing.T) {
	p := newPrunePool(t)
	for i := range times(6, 200) {
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGINT}[i%2]
		must(t, caravel, "make", "--no-sync", "--chunk-size=4K", p.gone, filepath.Join(p.dir, "other.img"))
		p.old(t)
		now := make(chan struct{})
		time.AfterFunc(time.Duration(i*i%40)*time.Millisecond, func() { close(now) })
		e := interrupt(t, sig, now, "gc", "-s", p.store, p.kept, p.tree)
		if e.status != 0 && e.status != 1 && e.signal != sig {
			t.Errorf("%v: status %d, %s", sig, e.status, e.stderr)
		}
		must(t, caravel, "gc", "-s", p.store, p.kept, p.tree)
		if n := readBack(t, p.store); n != p.keptN {
			t.Fatalf("%d chunks are left, want %d", n, p.keptN)
		}
	}
	must(t, caravel, "verify", "-s", p.store)
}
