//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

func TestTreeContents(t *testing.T) {
	tr := newFakeTree(best)
	sizes := []int64{0, 1, 511, 4095, 4096, 4097, 131072, 1<<20 + 3, 5 << 20}
	for i, size := range sizes {
		tr.file(tree.Root, fmt.Sprint(i), size)
	}
	m := mountedTree(t, tr, fusefs.Options{})
	for i, size := range sizes {
		path := fmt.Sprintf("%s/%d", m.Dir, i)
		off, _ := tr.Payload(tree.ID(i + 2))
		whole := want(off, int(size))
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, whole) {
			t.Errorf("%d bytes: got %d, %v", size, len(b), err)
		}
		for _, flags := range []int{0, unix.O_DIRECT} {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			buf := alignedPages(64 << 10)
			for range 50 {
				at := rand.Int64N(size+5000) &^ 511
				n, err := unix.Pread(fd, buf, at)
				if most := max(0, min(size-at, int64(len(buf)))); err != nil || int64(n) != most || n > 0 && !bytes.Equal(buf[:n], whole[at:at+int64(n)]) {
					t.Errorf("%d bytes, at %d: got %d, %v", size, at, n, err)
				}
			}
			for _, at := range []int64{size, size + 1, 1 << 40} {
				if n, err := unix.Pread(fd, buf, at&^511+512); n != 0 || err != nil {
					t.Errorf("%d bytes, behind the end: %d, %v", size, n, err)
				}
			}
			unix.Close(fd)
		}
	}
}

// By another process; see TestMap.
func TestTreeMap(t *testing.T) {
	const size = 300_001
	tr := newFakeTree(best)
	tr.file(tree.Root, "before", 12345)
	id := tr.file(tree.Root, "file", size)
	m := mountedTree(t, tr, fusefs.Options{})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "FUSEFS_TEST_MAP="+m.Dir+"/file")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	off, _ := tr.Payload(id)
	if err != nil || !bytes.Equal(out, want(off, size)) {
		t.Errorf("mapped: %d bytes, %v", len(out), err)
	}
}

// A program on the mount runs, whatever the kernel asks of it first. Not this
// process starts it: see the package's doc.
func TestTreeExecute(t *testing.T) {
	need(t, "true", "sh")
	path, _ := exec.LookPath("true")
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tr := newFakeTree(best)
	tr.add(tree.Root, "program", catar.Entry{Mode: unix.S_IFREG | 0o755, Size: int64(len(program)), SELinux: "l"})
	off, _ := tr.Payload(2)
	stream := append(make([]byte, off), program...)
	m := mountedParts(t, tr, parts(inMemory(stream)), fusefs.Options{})
	for range 3 {
		run(t, "sh", "-c", `"$0"`, m.Dir+"/program")
	}
}

// Each opened file has a Reader of its own, from its first read on to its end.
// Large ones have it from the start: see TestPassthrough.
func TestTreeReaderPerHandle(t *testing.T) {
	tr := newFakeTree(best)
	tr.file(tree.Root, "empty", 0)
	id := tr.file(tree.Root, "file", 1<<20-1)
	closed := make(chan struct{}, 10)
	var mu sync.Mutex
	var all []*pattern // by order of opening
	var places [][2]int64
	m := mountedParts(t, tr, func(off, size int64) fusefs.Reader {
		mu.Lock()
		defer mu.Unlock()
		p := &pattern{size: size}
		all, places = append(all, p), append(places, [2]int64{off, size})
		return closing{p, closed}
	}, fusefs.Options{})
	opened := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(all)
	}
	if b, err := os.ReadFile(m.Dir + "/empty"); err != nil || len(b) != 0 {
		t.Error(b, err)
	}
	for i := range 3 {
		f, err := os.Open(m.Dir + "/file")
		if err != nil {
			t.Fatal(err)
		}
		if opened() != i {
			t.Error("a Reader without a read")
		}
		buf := make([]byte, 4096)
		at := int64(i) * 300_000 // where the kernel has not read ahead
		if _, err := f.ReadAt(buf, at); err != nil || !bytes.Equal(buf, want(at, 4096)) {
			t.Error(err)
		}
		if opened() != i+1 {
			t.Errorf("%d Readers, want %d", opened(), i+1)
		}
		f.Close()
		<-closed
	}
	off, size := tr.Payload(id)
	for _, p := range places {
		if p != [2]int64{off, size} {
			t.Errorf("opened %v, want %d, %d", p, off, size)
		}
	}
	f, err := os.Open(m.Dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 4096), 300_000); err != nil || opened() != 3 {
		t.Errorf("what the kernel has: %v, %d Readers", err, opened())
	}
	if _, err := f.ReadAt(make([]byte, 4096), 900_000); err != nil || opened() != 4 {
		t.Errorf("what it has not: %v, %d Readers", err, opened())
	}
	if err := m.Unmount(); err != nil { // ends also what is open
		t.Error(err)
	}
	<-closed
	f.Close()
}

func TestTreeBadRange(t *testing.T) {
	const size = 1 << 20
	var good atomic.Bool
	tr := newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	id := tr.file(dir, "bad", size)
	other := tr.file(dir, "other", 8192)
	off, _ := tr.Payload(id)
	p := &pattern{size: tr.end, before: func(_ context.Context, at, n int64) error {
		if !good.Load() && at < off+8192 && at+n > off+4096 {
			return errors.New("chunk 1a2b: digest mismatch")
		}
		return nil
	}}
	log := new(notes)
	m := mountedParts(t, tr, parts(p), fusefs.Options{Log: log.logger()})
	path := m.Dir + "/dir/bad"
	for range 2 {
		if b, err := pread(path, 4096, 4096); !errors.Is(err, syscall.EIO) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		for _, at := range []int64{0, 8192, size - 4096} {
			if b, err := pread(path, at, 4096); err != nil || !bytes.Equal(b, want(off+at, 4096)) {
				t.Errorf("at %d: %v", at, err)
			}
		}
	}
	at, _ := tr.Payload(other)
	if b, err := os.ReadFile(m.Dir + "/dir/other"); err != nil || !bytes.Equal(b, want(at, 8192)) {
		t.Errorf("another file: %v", err)
	}
	if log.count("level=WARN") != 1 || log.count("file=/dir/bad") != 1 {
		t.Errorf("log:\n%s", log)
	}
	good.Store(true)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, want(off, size)) {
		t.Errorf("once repaired: %d bytes, %v", len(b), err)
	}
}

func TestTreeReadOnly(t *testing.T) {
	tr := newFakeTree(feature.Best)
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o666, Size: 10})
	m := mountedTree(t, tr, fusefs.Options{})
	path := m.Dir + "/file"
	_, create := os.Create(m.Dir + "/new")
	_, write := os.OpenFile(path, os.O_WRONLY, 0)
	for name, err := range map[string]error{
		"create": create, "open for writing": write, "remove": os.Remove(path), "chmod": os.Chmod(path, 0o600),
		"setxattr": unix.Setxattr(path, "user.a", []byte("b"), 0), "mkdir": os.Mkdir(m.Dir+"/dir", 0o777),
		"removexattr": unix.Removexattr(path, "user.a"), "mknod": unix.Mkfifo(m.Dir+"/fifo", 0o644),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
}
