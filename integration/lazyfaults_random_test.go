//go:build linux

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// oneInTen has one answer in ten go wrong, in five ways. An index whose bytes are
// others nobody can tell from another index, and one that does not come keeps
// nothing waiting but its command: TestFaultsBesideChunks has these.
func oneInTen(seed uint64) origin.Faults {
	odds := func(kind origin.Kind) origin.Odds {
		return origin.Odds{Chance: 0.02, Fault: origin.Fault{Kind: kind, Status: 503}, Within: 4000}
	}
	all := origin.Random(seed, odds(origin.Answer), odds(origin.Reset), odds(origin.Hang), odds(origin.Cut), odds(origin.Flip))
	return func(n int64, path string) origin.Fault {
		f := all(n, path)
		if !strings.Contains(path, ".castr/") && (f.Kind == origin.Flip || f.Kind == origin.Hang) {
			return origin.Fault{}
		}
		return f
	}
}

// aTree is one of a few megabytes, and in a long run Go's own.
func aTree(t *testing.T) packedTree {
	if !long() {
		return packTree(t, caravel, func(dir string) {
			randomFiles(t, 12, 20, 9_000)(dir)
			random(t, dir+"/large", 3<<20)
			if err := os.Symlink("large", dir+"/link"); err != nil {
				t.Fatal(err)
			}
		}, "--chunk-size=16K")
	}
	p := packedTree{dir: t.TempDir(), source: goroot(t)}
	p.index = p.path("tree.caidx")
	must(t, caravel, "make", "--no-sync", p.index, p.source)
	return p
}

// A look is a node of a tree as somebody sees it.
type look struct {
	mode   fs.FileMode
	size   int64 // of files
	time   time.Time
	target string // of links
	names  []string
}

func lookAt(path string) (l look, err error) {
	st, err := os.Lstat(path)
	if err != nil {
		return l, err
	}
	l = look{mode: st.Mode(), time: st.ModTime()}
	switch {
	case st.Mode().IsRegular():
		l.size = st.Size()
	case st.IsDir():
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			l.names = append(l.names, e.Name())
		}
		return l, err
	case st.Mode()&fs.ModeSymlink != 0:
		l.target, err = os.Readlink(path)
	}
	return l, err
}

func (l look) same(o look) bool {
	return l.mode == o.mode && l.size == o.size && l.time.Equal(o.time) && l.target == o.target && slices.Equal(l.names, o.names)
}

// readsTree reads all of a tree, in an order of its own, and compares it with
// another one.
func readsTree(ctx context.Context, got, want string, order *rand.Rand) error {
	var names []string
	err := filepath.WalkDir(want, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, want))
		return err
	})
	if err != nil {
		return err
	}
	order.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		there, err := lookAt(want + name)
		if err != nil {
			return err
		}
		here, err := lookAt(got + name)
		if err != nil {
			return err
		}
		if !here.same(there) {
			return fmt.Errorf("%s: %v, want %v", name, here, there)
		}
		if !there.mode.IsRegular() {
			continue
		}
		a, err := os.ReadFile(got + name)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(want + name)
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%s: other bytes", name)
		}
	}
	return nil
}

// report has a command write its --stats-file, and reads it.
func (d *daemon) report(path string, into any) {
	d.t.Helper()
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		d.t.Fatalf("%v; stderr: %s", err, d.stderr)
	}
	eventually(d.t, "there is a report", func() bool { _, err := os.Stat(path); return err == nil })
	if err := json.Unmarshal(read(d.t, path), into); err != nil {
		d.t.Fatal(err)
	}
}

// comesToRest waits until a command has done all that it has to do.
func (d *daemon) comesToRest(stats string) {
	d.t.Helper()
	deadline := time.Now().Add(3 * time.Minute) // a silent server takes half of one, more than once
	for d.busy(stats) {
		if time.Now().After(deadline) {
			d.t.Fatalf("it does not come to rest: %s", read(d.t, stats))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// busy reports whether a command has something under way.
func (d *daemon) busy(stats string) bool {
	d.t.Helper()
	var s struct {
		Images []struct {
			Chunks int64
			Sweep  struct{ Present, Fetched, Left int64 }
		}
		Memory  struct{ UnderWay int64 }
		Origins []struct{ InFlight, Queued int }
	}
	d.report(stats, &s)
	for _, i := range s.Images {
		if w := i.Sweep; w.Present+w.Fetched+w.Left < i.Chunks {
			return true
		}
	}
	for _, o := range s.Origins {
		if o.InFlight > 0 || o.Queued > 0 {
			return true
		}
	}
	return s.Memory.UnderWay > 0
}

// descriptors are what files a command has open.
func (d *daemon) descriptors() (open []string) {
	d.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open = append(open, to)
		}
	}
	return open
}

// goroutines ends a command by SIGQUIT, and counts where those were made that it
// prints, but for the ones of the kernel's requests, which are as many as there
// were at once.
func (d *daemon) goroutines() map[string]int {
	d.t.Helper()
	d.stop(syscall.SIGQUIT)
	made := map[string]int{}
	for _, stack := range strings.Split(d.stderr.String(), "\n\ngoroutine ")[1:] {
		m := madeBy.FindStringSubmatch(stack)
		if m != nil && !strings.Contains(m[1], "go-fuse") {
			made[m[1]]++
		}
	}
	return made
}

var madeBy = regexp.MustCompile(`\ncreated by (\S+)`)

// TestOneAnswerInTen goes wrong, and six readers of a whole tree see nothing of
// it; what was fetched is kept, and nothing else stays behind.
func TestOneAnswerInTen(t *testing.T) {
	needFUSE(t)
	p := aTree(t)
	for seed := range uint64(times(1, 3)) {
		cache := t.TempDir()
		crowd := func(dir string) {
			err := parallel(6, func(ctx context.Context, i int) error {
				return readsTree(ctx, dir, p.source, rand.New(rand.NewPCG(seed, uint64(i))))
			})
			if err != nil {
				t.Error(err)
			}
		}
		fds, made, _ := p.readBadly(t, cache, 3*seed, crowd)
		idleFds, idle, _ := p.readBadly(t, cache, 3*seed+1, func(string) {})
		if len(fds) > len(idleFds) {
			t.Errorf("%d descriptors are open, %v; of one that has read nothing %d, %v", len(fds), fds, len(idleFds), idleFds)
		}
		if len(made) == 0 {
			t.Error("no goroutines are found")
		}
		for by, n := range made {
			if n > idle[by] {
				t.Errorf("%d goroutines by %s, of one that has read nothing %d", n, by, idle[by])
			}
		}
		// What came is kept, but for what the disk was too slow for.
		if _, _, chunks := p.readBadly(t, cache, 3*seed+2, crowd); chunks > 10 {
			t.Errorf("%d chunks are asked for that were here", chunks)
		}
	}
}

// readBadly mounts the tree from an origin that has one answer in ten go wrong,
// and tells which files and goroutines are left when it has been read, and how
// many chunks were asked for.
func (p packedTree) readBadly(t *testing.T, cache string, seed uint64, read func(dir string)) (fds []string, made map[string]int, chunks int64) {
	t.Helper()
	o, err := origin.Start(p.dir, origin.Options{Faults: oneInTen(seed)})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	stats, began := p.path("stats.json"), time.Now()
	// Time for four requests that are never answered, one after the other.
	m, dir := mountedTree(t, "--timeout=2m", "--memory=32M", "--cache-dir", cache, "--stats-file", stats, o.URL()+"/tree.caidx")
	read(dir)
	m.comesToRest(stats)
	_, chunks = asked(o)
	t.Logf("%d chunks are asked for in %v", chunks, time.Since(began).Round(time.Millisecond))
	o.Close() // and so all connections
	eventually(t, "all connections are closed", func() bool {
		fds = m.descriptors()
		return !slices.ContainsFunc(fds, func(to string) bool { return strings.HasPrefix(to, "socket:") })
	})
	if strings.Contains(m.stderr.String(), "level=ERROR") {
		t.Errorf("says %s", m.stderr)
	}
	return fds, m.goroutines(), chunks
}
