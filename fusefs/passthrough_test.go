//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar/tree"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// canPass skips t, and says why, where the kernel reads no file by itself.
func canPass(t testing.TB) {
	t.Helper()
	needRoot(t)
	log := new(notes)
	_, f := patternFile(1)
	mounted(t, f, fusefs.Options{Debug: true, Log: log.debugger()})
	if log.count("PASSTHROUGH") == 0 {
		t.Skipf("%s: the kernel has no FUSE passthrough", t.Name())
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &fs); err != nil || fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		t.Skipf("%s: the temporary directory is an overlay (%v)", t.Name(), err)
	}
}

// debugger also keeps what is logged at level debug.
func (n *notes) debugger() *slog.Logger {
	return slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A backed reader of a pattern may have a file with it.
type backed struct {
	*pattern
	file   atomic.Pointer[os.File]
	asked  atomic.Int64
	closed chan struct{} // if not nil, gets one for each Close
}

func (b *backed) Backing() *os.File {
	b.asked.Add(1)
	return b.file.Load()
}

func (b *backed) Close() error {
	if b.closed != nil {
		b.closed <- struct{}{}
	}
	return nil
}

func newBacked(size int64) *backed {
	return &backed{pattern: &pattern{size: size}, closed: make(chan struct{}, 1000)}
}

// fileOf is a file of n bytes of the pattern from off on.
func fileOf(t testing.TB, off int64, n int) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(path, want(off, n), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// mountedBacked shows b as the file of an image, and as a file of a tree.
func mountedBacked(t *testing.T, b *backed, test func(t *testing.T, path string)) {
	t.Run("file", func(t *testing.T) {
		_, path := mounted(t, fusefs.File{Size: b.size, Open: func() fusefs.Reader { return b }}, fusefs.Options{Passthrough: 1})
		test(t, path)
	})
	t.Run("tree", func(t *testing.T) {
		tr := newFakeTree(best)
		tr.file(tree.Root, "disk", b.size)
		m := mountedParts(t, tr, func(off, size int64) fusefs.Reader { return b }, fusefs.Options{Passthrough: 1})
		for len(b.closed) > 0 { // by the mount before
			<-b.closed
		}
		test(t, m.Dir+"/disk")
	})
}

func TestPassthrough(t *testing.T) {
	canPass(t)
	const size = 1<<20 + 3
	b := newBacked(size)
	file := fileOf(t, 0, size)
	b.file.Store(file)
	if err := os.Remove(file.Name()); err != nil { // as a cache does that is full
		t.Fatal(err)
	}
	mountedBacked(t, b, func(t *testing.T, path string) {
		for range 3 {
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want(0, size)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			<-b.closed
		}
		for _, flags := range []int{0, unix.O_DIRECT} {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			buf := alignedPages(64 << 10)
			for range 50 {
				at := rand.Int64N(size+8192) &^ 4095
				n, err := unix.Pread(fd, buf, at)
				if most := max(0, min(size-at, int64(len(buf)))); err != nil || int64(n) != most || !bytes.Equal(buf[:n], want(at, n)) {
					t.Errorf("at %d: got %d, %v", at, n, err)
				}
			}
			unix.Close(fd)
			<-b.closed
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "FUSEFS_TEST_MAP="+path)
		if out, err := cmd.Output(); err != nil || !bytes.Equal(out, want(0, size)) {
			t.Errorf("mapped: %d bytes, %v", len(out), err)
		}
		<-b.closed
		if st, err := os.Stat(path); err != nil || st.Size() != size {
			t.Errorf("%v, %v", st, err)
		}
		if n := b.reads.Load(); n != 0 {
			t.Errorf("%d reads came here", n)
		}
	})
}

// A Reader that all share is not closed in between.
func TestPassthroughSharedReader(t *testing.T) {
	canPass(t)
	b := newBacked(1 << 20)
	b.file.Store(fileOf(t, 0, 1<<20))
	_, path := mounted(t, fusefs.File{Size: b.size, Reader: b}, fusefs.Options{})
	for range 3 {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want(0, 1<<20)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if b.reads.Load() != 0 || len(b.closed) != 0 {
		t.Errorf("%d reads, %d times closed", b.reads.Load(), len(b.closed))
	}
}

// How the first one reads a file, all do who have it open at the same time.
func TestPassthroughLater(t *testing.T) {
	canPass(t)
	const size = 1 << 20
	b := newBacked(size)
	file := fileOf(t, 0, size)
	open := func(path string) *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	at := int64(0)
	read := func(what string, f *os.File, here bool) {
		t.Helper()
		buf := make([]byte, 4096)
		was := b.reads.Load()
		if _, err := f.ReadAt(buf, at); err != nil || !bytes.Equal(buf, want(at, 4096)) {
			t.Errorf("%s: %v", what, err)
		}
		if came := b.reads.Load() > was; came != here {
			t.Errorf("%s: read through us: %v, want %v", what, came, here)
		}
		at += 1 << 17 // where the kernel has not read ahead
	}
	mountedBacked(t, b, func(t *testing.T, path string) {
		at = 0
		b.file.Store(nil)
		first := open(path)
		read("not complete", first, true)
		b.file.Store(file)
		second := open(path)
		read("complete, but open before", first, true)
		read("the same, by the second", second, true)
		first.Close()
		second.Close()
		<-b.closed
		<-b.closed
		third := open(path)
		read("opened when complete", third, false)
		b.file.Store(nil)
		fourth := open(path)
		read("complete no more", fourth, false)
		third.Close()
		<-b.closed
		read("alone", fourth, false)
		fourth.Close()
	})
}

// A file that does not fit is read through us, and no reason to fail.
func TestPassthroughUnfit(t *testing.T) {
	canPass(t)
	const size = 1 << 20
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer other.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	closed := fileOf(t, 0, size)
	closed.Close()
	for name, file := range map[string]*os.File{
		"short": fileOf(t, 0, size-1), "long": fileOf(t, 0, size+1), "pipe": pipe, "directory": dir, "closed": closed,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacked(size)
			b.file.Store(file)
			mountedBacked(t, b, func(t *testing.T, path string) {
				was := b.reads.Load()
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want(0, size)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if b.reads.Load() == was {
					t.Error("not read through us")
				}
			})
		})
	}
}

// Of small files nobody is asked when they are opened, and of none if so said.
func TestPassthroughAsks(t *testing.T) {
	tests := []struct {
		size, from int64
		asked      bool
	}{
		{1<<20 - 1, 0, false}, {1 << 20, 0, true}, {1 << 20, -1, false}, {100, 100, true}, {99, 100, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d from %d", tt.size, tt.from), func(t *testing.T) {
			needRoot(t)
			b := newBacked(tt.size)
			var opened atomic.Int64
			tr := newFakeTree(best)
			tr.file(tree.Root, "file", tt.size)
			m := mountedParts(t, tr, func(off, size int64) fusefs.Reader { opened.Add(1); return b }, fusefs.Options{Passthrough: tt.from})
			f, err := os.Open(m.Dir + "/file")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if (b.asked.Load() > 0) != tt.asked || (opened.Load() > 0) != tt.asked {
				t.Errorf("asked %d times, %d Readers", b.asked.Load(), opened.Load())
			}
		})
	}
}

// Whoever opens and closes when, nobody's open or read fails.
func TestPassthroughConcurrent(t *testing.T) {
	canPass(t)
	const size = 64 << 10
	b := newBacked(size)
	b.closed = nil
	file := fileOf(t, 0, size)
	_, path := mounted(t, fusefs.File{Size: size, Open: func() fusefs.Reader { return b }}, fusefs.Options{Passthrough: 1})
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 200 {
				if rnd.IntN(3) == 0 {
					b.file.Store(nil)
				} else {
					b.file.Store(file)
				}
				at := rnd.Int64N(size)
				got, err := pread(path, at, 3000)
				if err != nil || !bytes.Equal(got, want(at, int(min(3000, size-at)))) {
					t.Errorf("at %d: %d bytes, %v", at, len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The mount ends at once also if the kernel reads a file by itself, and who has
// that open has it on.
func TestPassthroughUnmount(t *testing.T) {
	canPass(t)
	const size = 1 << 20
	b := newBacked(size)
	b.file.Store(fileOf(t, 0, size))
	m, path := mounted(t, fusefs.File{Size: size, Open: func() fusefs.Reader { return b }}, fusefs.Options{})
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	<-b.closed
	buf := make([]byte, 4096)
	if _, err := f.ReadAt(buf, 4096); err != nil || !bytes.Equal(buf, want(4096, 4096)) {
		t.Error(err)
	}
}

// What the archive contradicts is not handed to the kernel either.
func TestPassthroughUnconfirmed(t *testing.T) {
	canPass(t)
	const size = 1 << 20
	b := newBacked(size)
	b.file.Store(fileOf(t, 0, size))
	tr := newFakeTree(best)
	tr.file(tree.Root, "file", size)
	tr.before = func(_ context.Context, op string, _ tree.ID, _ string) error {
		if op == "confirm" {
			return errors.New("entry /file: the sidecar says 0100755, the archive 0100644")
		}
		return nil
	}
	log := new(notes)
	m := mountedParts(t, tr, func(int64, int64) fusefs.Reader { return b }, fusefs.Options{Log: log.logger()})
	for range 2 {
		if got, err := os.ReadFile(m.Dir + "/file"); !errors.Is(err, syscall.EIO) || len(got) > 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if log.count("level=WARN") != 1 || !strings.Contains(log.String(), "the archive 0100644") {
		t.Errorf("log:\n%s", log)
	}
}

// An overlay can lie on a mount whose files the kernel reads by itself; and two,
// one on the other, on one that has none such.
func TestPassthroughBelowOverlay(t *testing.T) {
	canPass(t)
	const size = 1 << 20
	overlay := func(lower string) (string, error) {
		dir, empty := t.TempDir(), t.TempDir()
		err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+lower+":"+empty)
		if err == nil {
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		}
		return dir, err
	}
	if _, err := overlay(t.TempDir()); err != nil {
		t.Skipf("%s: no overlays: %v", t.Name(), err)
	}
	for from, levels := range map[int64]int{0: 1, -1: 2} {
		b := newBacked(size)
		b.file.Store(fileOf(t, 0, size))
		m, _ := mounted(t, fusefs.File{Size: size, Reader: b}, fusefs.Options{Passthrough: from})
		dir := m.Dir
		for range levels {
			above, err := overlay(dir)
			if err != nil {
				t.Fatalf("from %d: %v", from, err)
			}
			dir = above
		}
		got, err := os.ReadFile(dir + "/disk")
		if err != nil || !bytes.Equal(got, want(0, size)) {
			t.Errorf("from %d: %d bytes, %v", from, len(got), err)
		}
		if here := b.reads.Load() > 0; here != (from < 0) {
			t.Errorf("from %d: read through us: %v", from, here)
		}
	}
}
