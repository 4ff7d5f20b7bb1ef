//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// A victim is a mount that is killed and mounted again, at the same place.
type victim struct {
	t    *testing.T
	args []string // of the mount, without its place
	dir  string
	path string // of what is read, below dir
	data []byte // what belongs there
	d    *daemon
}

// mount starts it, whatever its predecessor has left.
func (v *victim) mount() {
	v.t.Helper()
	for unix.Unmount(v.dir, unix.MNT_DETACH) == nil {
	}
	v.d = start(v.t, caravel, append(append([]string{"mount"}, v.args...), v.dir)...)
}

// shown waits until it is mounted, or dead.
func (v *victim) shown() bool {
	select {
	case <-v.d.lines:
		return true
	case <-v.d.exited:
		return false
	}
}

// read reads here and there until it fails, which it may as soon as killed is
// closed, and checks every byte.
func (v *victim) read(seed uint64, killed <-chan struct{}) (reads int, err error) {
	f, err := os.Open(filepath.Join(v.dir, v.path))
	for r := rand.New(rand.NewPCG(seed, seed)); err == nil; reads++ {
		off := r.Int64N(int64(len(v.data)))
		got := make([]byte, min(1+r.IntN(40_000), len(v.data)-int(off)))
		var n int
		n, err = f.ReadAt(got, off)
		if !bytes.Equal(got[:n], v.data[off:off+int64(n)]) {
			return reads, fmt.Errorf("wrong bytes among the %d at %d", n, off)
		}
	}
	if f != nil {
		f.Close()
	}
	select {
	case <-killed:
		return reads, nil
	default:
		return reads, err
	}
}

// livesFor mounts it, has it read by two and kills it after a while, wherever it
// is then.
func (v *victim) livesFor(while time.Duration, seed uint64) (reads int, err error) {
	v.mount()
	killed := make(chan struct{})
	timer := time.AfterFunc(while, func() {
		close(killed)
		_ = v.d.cmd.Process.Kill()
	})
	defer timer.Stop()
	if v.shown() {
		var all sync.WaitGroup
		var failed [2]error
		var done [2]int
		for i := range failed {
			all.Go(func() { done[i], failed[i] = v.read(seed*2+uint64(i), killed) })
		}
		all.Wait()
		for i := range failed {
			reads += done[i]
			if failed[i] != nil {
				err = fmt.Errorf("%w; stderr: %s", failed[i], v.d.stderr)
			}
		}
	}
	<-v.d.exited
	select {
	case <-killed:
	default:
		err = fmt.Errorf("ended by itself: %w; stderr: %s", err, v.d.stderr)
	}
	return reads, err
}

// kill has two mounts live and die, each so many times, with one of the lists of
// arguments after the other.
func kill(t *testing.T, lives int, path string, data []byte, args ...[]string) {
	t.Helper()
	var places [2]string
	for i := range places {
		places[i] = t.TempDir()
		unmountLater(t, places[i])
	}
	var reads [2]int
	err := parallel(2, func(ctx context.Context, i int) error {
		v := &victim{t: t, dir: places[i], path: path, data: data}
		r := rand.New(rand.NewPCG(99, uint64(i)))
		for life := range lives {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			v.args = args[(life+i)%len(args)]
			n, err := v.livesFor(time.Duration(r.IntN(400))*time.Millisecond, uint64(life*2+i))
			if err != nil {
				return fmt.Errorf("life %d: %w", life, err)
			}
			reads[i] += n
		}
		for unix.Unmount(v.dir, unix.MNT_DETACH) == nil {
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d and %d reads in %d lives each", reads[0], reads[1], lives)
}

// noRemains checks that nobody's unfinished work is left in a cache.
func noRemains(t *testing.T, cache string) {
	t.Helper()
	if left, err := filepath.Glob(cache + "/tmp/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// askedOnce counts the chunks that an origin was asked for. One that is asked for
// again, as its first answer is late, counts once.
func askedOnce(o *origin.Origin) (chunks int64) {
	for path := range o.Counts().Paths {
		if strings.Contains(path, ".castr/") {
			chunks++
		}
	}
	return chunks
}

// TestKillSharers kills two mounts of an image again and again, which share a
// cache in one life and a materialised file in the next. No byte is ever wrong, and
// in the end both are good for all that was put there.
func TestKillSharers(t *testing.T) {
	needFUSE(t)
	lives := times(6, 100) // of each
	d := newDisk(t, times(4, 48)<<20, "--chunk-size=16K")
	// Slow enough for there to be something left to do at the last kill.
	o := serveDir(t, d.dir, origin.Options{Bandwidth: 2e6})
	url, cache, file := o.URL()+"/disk.caibx", d.path("cache"), d.path("materialised")
	stats := d.path("stats.json")
	shared := []string{"--memory=1M", "--cache-dir", cache, url}
	whole := append(shared[:4:4], "--materialize", file)
	chunks, kept := len(d.chunks(t)), 0
	for try := 0; kept < chunks/20; try++ { // on a slow machine they die before they have anything
		if try == 20 {
			t.Fatalf("%d of %d chunks are kept after so many lives", kept, chunks)
		}
		kill(t, lives, "disk", d.data, whole, shared)
		kept = countKept(t, cache)
	}
	t.Logf("%d of %d chunks were kept", kept, chunks)
	o.SetBandwidth(0)
	o.Reset()
	readAll := func(args ...string) (chunks int64) {
		t.Helper()
		o.Reset()
		m, path := mounted(t, append(args, t.TempDir())...)
		holds(t, path, d.data)
		if slices.Contains(args, file) {
			m.comesToRest(stats)
		}
		m.ends(syscall.SIGTERM, soon)
		if said := m.stderr.String(); strings.Contains(said, "level=") {
			t.Errorf("says %s", said)
		}
		return askedOnce(o)
	}
	if n, most := readAll(append(shared, "--no-sweep")...), int64(chunks-kept*95/100); n > most {
		t.Errorf("%d chunks are asked for, want %d at most: %d of %d were kept", n, most, kept, chunks)
	}
	if n := readAll(append(whole, "--stats-file", stats)...); n > 3 {
		t.Errorf("%d chunks are asked for that the cache has", n)
	}
	must(t, "cmp", d.image, file)
	// The file alone will do, too.
	if n := readAll("--memory=1M", "--stats-file", stats, "--materialize", file, url); n > 0 {
		t.Errorf("%d chunks are asked for that the file has", n)
	}
	noRemains(t, cache)
	must(t, "rm", "-r", cache)
	clean(t, d.dir, "disk.img", "disk.caibx", "stats.json", "materialised", "materialised.map")
}

// TestKillSharersOfATree does the same to a tree, without a sidecar but the one
// that the mounts find out, and with its large file assembled in the cache.
func TestKillSharersOfATree(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, func(dir string) {
		randomFiles(t, 10, 20, 700)(dir)
		random(t, dir+"/large", times(3, 24)<<20)
	}, "--chunk-size=16K", "--no-tree")
	o := serveDir(t, p.dir, origin.Options{Bandwidth: 2e6})
	cache, stats := p.path("cache"), p.path("stats.json")
	args := []string{"--memory=2M", "--cache-dir", cache, "--materialize=yes", o.URL() + "/tree.caidx"}
	kill(t, times(4, 50), "large", read(t, p.source+"/large"), args)

	o.SetBandwidth(0)
	kept, all := countKept(t, cache), countChunks(t, p.path("default.castr"))
	t.Logf("%d of %d chunks were kept", kept, all)
	for _, most := range []int{all - kept*95/100, 3} {
		o.Reset()
		m, dir := mountedTree(t, append(args, "--stats-file", stats)...)
		sameTree(t, dir, p.source)
		m.comesToRest(stats)
		m.ends(syscall.SIGTERM, soon)
		if said := m.stderr.String(); strings.Contains(said, "level=") {
			t.Errorf("says %s", said)
		}
		if chunks := askedOnce(o); chunks > int64(most) {
			t.Errorf("%d chunks are asked for, want %d at most: %d of %d were kept", chunks, most, kept, all)
		}
	}
	noRemains(t, cache)
	sidecars, err := filepath.Glob(cache + "/files/side/*.tree")
	if err != nil || len(sidecars) != 1 {
		t.Errorf("sidecars that were found out: %v, %v", sidecars, err)
	}
	files, err := filepath.Glob(cache + "/images/*/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("assembled are %v, %v", files, err)
	}
	same(t, strings.TrimSuffix(files[0], ".map"), p.source+"/large")
}
