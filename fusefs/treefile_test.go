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

// A file has one Reader, whoever has it open, from its first read until 128 others
// were read. One that is read whole at once is none of those. Large ones that the kernel
// may read by itself have one for each who opens them: see TestPassthrough.
func TestTreeReaders(t *testing.T) {
	for _, passthrough := range []int64{0, -1} {
		t.Run(fmt.Sprint(passthrough), func(t *testing.T) { testTreeReaders(t, passthrough) })
	}
}

func testTreeReaders(t *testing.T, passthrough int64) {
	tr := newFakeTree(best)
	tr.file(tree.Root, "empty", 0)
	id := tr.file(tree.Root, "file", 1<<20-1)
	for i := range 128 {
		tr.file(tree.Root, fmt.Sprint("other", i), 300_000)
		tr.file(tree.Root, fmt.Sprint("small", i), 8192)
	}
	off, size := tr.Payload(id)
	closed := make(chan struct{}, 1000)
	var mu sync.Mutex
	var made, ofFile int
	m := mountedParts(t, tr, func(at, n int64) fusefs.Reader {
		mu.Lock()
		defer mu.Unlock()
		made++
		if at == off && n == size {
			ofFile++
		}
		return closing{&pattern{size: n}, closed}
	}, fusefs.Options{Passthrough: passthrough})
	readers := func() [2]int {
		mu.Lock()
		defer mu.Unlock()
		return [2]int{made, ofFile}
	}
	read := func(name string, at int64, n int) {
		t.Helper()
		if b, err := pread(m.Dir+"/"+name, at, n); err != nil || !bytes.Equal(b, want(at, n)) {
			t.Errorf("%s at %d: %d bytes, %v", name, at, len(b), err)
		}
	}
	if b, err := os.ReadFile(m.Dir + "/empty"); err != nil || len(b) != 0 {
		t.Error(b, err)
	}
	f, err := os.Open(m.Dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := readers(); got != [2]int{} {
		t.Errorf("%v Readers without a read", got)
	}
	for i := range 3 {
		read("file", int64(i)*300_000, 4096) // where the kernel has not read ahead
	}
	if got := readers(); got != [2]int{1, 1} || len(closed) != 0 {
		t.Errorf("%v Readers, %d closed", got, len(closed))
	}
	for i := range 128 {
		read(fmt.Sprint("small", i), 0, 8192)
		<-closed
	}
	for i := range 127 {
		read(fmt.Sprint("other", i), 0, 4096)
	}
	if got := readers(); got != [2]int{256, 1} || len(closed) != 0 {
		t.Errorf("%v Readers, %d closed", got, len(closed))
	}
	read("other127", 0, 4096)
	<-closed
	read("file", 900_000, 4096)
	<-closed // of other0
	if got := readers(); got != [2]int{258, 2} || len(closed) != 0 {
		t.Errorf("%v Readers, %d closed", got, len(closed))
	}
	if err := m.Unmount(); err != nil { // ends also what is open
		t.Error(err)
	}
	for range 128 {
		<-closed
	}
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
