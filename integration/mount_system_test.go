//go:build linux

package integration

import (
	"bytes"
	"fmt"
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

// TestMountKilledInReads kills a mount while it is being read: readers get an error
// soon, and with --supervise those who open files after that get them.
func TestMountKilledInReads(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, randomFiles(t, 8, 8, 200_000), "--chunk-size=16K")
	o := serveDir(t, p.dir, origin.Options{RTT: 20 * time.Millisecond})
	m, dir := mountedTree(t, "--supervise", "--no-sweep", "--memory=1M", o.URL()+"/tree.caidx")
	for round := range times(2, 20) {
		worker := serving(t, dir)
		if worker == 0 {
			t.Fatal("nobody serves")
		}
		var readers sync.WaitGroup
		killed := make(chan struct{})
		for d := range 8 {
			readers.Go(func() {
				for f := 0; ; f = (f + 1) % 8 {
					name := fmt.Sprintf("dir%02d/file%02d", d, f)
					got, err := os.ReadFile(filepath.Join(dir, name))
					select {
					case <-killed:
						return
					default:
					}
					if want := read(t, filepath.Join(p.source, name)); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: %d bytes, %v", name, len(got), err)
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(50+37*round) * time.Millisecond) // in the middle of it
		close(killed)
		if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			readers.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(soon):
			t.Fatal("readers hang")
		}
		eventually(t, "it is mounted again", func() bool {
			now := serving(t, dir)
			got, err := os.ReadFile(dir + "/dir00/file00")
			return now != 0 && now != worker && err == nil && bytes.Equal(got, read(t, p.source+"/dir00/file00"))
		})
	}
	sameTree(t, dir, p.source)
	if said := m.stderr.String(); !strings.Contains(said, "started again") {
		t.Errorf("says %q", said)
	}
	m.ends(syscall.SIGTERM, soon)
	absent(t, dir) // which the first one made
}

// TestMountLazilyUnmounted takes a mount out of sight: who has a file of it open reads
// on, and with him it ends.
func TestMountLazilyUnmounted(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	p := packTree(t, caravel, randomFiles(t, 1, 2, 1_000_000))
	o := serveDir(t, p.dir, origin.Options{RTT: 5 * time.Millisecond})
	m, dir := mountedTree(t, "--no-sweep", o.URL()+"/tree.caidx")
	f, err := os.Open(dir + "/dir00/file01")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	want := read(t, p.source+"/dir00/file01")
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes, %v", err)
	}
	select {
	case <-m.exited:
		t.Error("it has ended with a file open")
	default:
	}
	f.Close()
	if status := m.wait(); status != 0 {
		t.Errorf("status %d: %s", status, m.stderr)
	}
}

// TestMountsShareTheCache mounts an image twice: what one has fetched the other has.
func TestMountsShareTheCache(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, randomFiles(t, 4, 8, 50_000))
	o := serveDir(t, p.dir, origin.Options{RTT: time.Millisecond})
	cache := t.TempDir()
	_, first := mountedTree(t, "--no-sweep", "--cache-dir", cache, o.URL()+"/tree.caidx")
	_, second := mountedTree(t, "--no-sweep", "--cache-dir", cache, o.URL()+"/tree.caidx")
	sameTree(t, first, p.source)
	// What was read goes to the cache behind the reader's back.
	eventually(t, "nothing more is kept", func() bool {
		before := len(pathsBelow(t, cache))
		time.Sleep(200 * time.Millisecond)
		return len(pathsBelow(t, cache)) == before
	})
	o.Reset()
	sameTree(t, second, p.source)
	if n := o.Counts().Requests; n > 0 {
		t.Errorf("%d requests for what is here: %v", n, o.Counts().Paths)
	}
}

// TestMountHoles shows the holes of a file in a tree, so that who copies it reads none.
func TestMountHoles(t *testing.T) {
	needFUSE(t)
	const size = 128 << 20
	p := packTree(t, caravel, func(dir string) {
		f, err := os.Create(dir + "/sparse")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		island := make([]byte, 100_000)
		for i := range island {
			island[i] = byte(i*7 + i>>8)
		}
		for _, at := range []int64{0, 30 << 20, size - int64(len(island))} {
			if _, err := f.WriteAt(island, at); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, dir+"/whole", bytes.Repeat(island, 3))
	})
	_, dir := mountedTree(t, "--no-sweep", p.index)
	if st := statOf(t, dir+"/sparse"); st.Size != size || st.Blocks > 2<<20/512 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	if st := statOf(t, dir+"/whole"); st.Blocks != (st.Size+511)/512 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	to := filepath.Join(t.TempDir(), "copy")
	must(t, "cp", dir+"/sparse", to)
	if st := statOf(t, to); st.Blocks > 4<<20/512 {
		t.Errorf("the copy has %d blocks", st.Blocks)
	}
	must(t, "cmp", to, p.source+"/sparse")
	if got := strings.TrimSpace(must(t, caravel, "digest", dir)); got != p.digest {
		t.Errorf("digest is %s, want %s", got, p.digest)
	}
}

// TestMountPartSweeps fetches in the background what is shown, and not all of the tree.
func TestMountPartSweeps(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, randomFiles(t, 8, 4, 100_000), "--chunk-size=16K")
	all := countChunks(t, p.path("default.castr"))
	for _, flag := range []string{"--no-tree", "--timeout=60s"} { // with a sidecar and without
		o := serveDir(t, p.dir, origin.Options{})
		cache := t.TempDir()
		m, _ := mountedTree(t, flag, "--subtree=dir03", "--cache-dir", cache, o.URL()+"/tree.caidx")
		still := 0
		eventually(t, "the sweep ends", func() bool {
			n := o.Counts().Requests
			time.Sleep(300 * time.Millisecond)
			if o.Counts().Requests > n || n < 10 {
				still = 0
				return false
			}
			still++
			return still > 3
		})
		if n := int(o.Counts().Requests); n < all/10 || n > all/3 {
			t.Errorf("%s: %d requests for an eighth of %d chunks", flag, n, all)
		}
		m.ends(syscall.SIGTERM, soon)
		_, dir := mountedTree(t, flag, "--subtree=dir03", "--offline", "--cache-dir", cache, o.URL()+"/tree.caidx")
		sameTree(t, dir, p.source+"/dir03")
	}
}
