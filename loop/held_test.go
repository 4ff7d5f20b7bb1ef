//go:build linux

package loop_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/fusefs"
	"caravel/loop"
)

// An onDisk is a file each read of which takes a millisecond.
type onDisk struct{ *os.File }

func (f onDisk) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	time.Sleep(time.Millisecond)
	return f.File.ReadAt(p, off)
}

// serve takes its turn at the held mount of which descriptor 3 is a part.
func serve(image string) {
	f, err := os.Open(image)
	if err != nil {
		panic(err)
	}
	st, err := f.Stat()
	if err != nil {
		panic(err)
	}
	t, err := fusefs.ServeFile(os.NewFile(3, "lent"), fusefs.File{Name: "disk", Size: st.Size(), Reader: onDisk{f}}, fusefs.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println("serving")
	<-t.Done()
	fmt.Println("over")
}

// readers reads random pages of the file at path past the page cache, 16 at
// a time, until standard input ends, and compares them with the file like.
func readers(path, like string) {
	want, err := os.ReadFile(like)
	if err != nil {
		panic(err)
	}
	var stop atomic.Bool
	var reads atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			if err != nil {
				panic(err)
			}
			page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				panic(err)
			}
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for ; !stop.Load(); reads.Add(1) {
				off := 4096 * random.IntN(len(want)/4096)
				n, err := unix.Pread(fd, page, int64(off))
				if err != nil || !bytes.Equal(page[:n], want[off:off+4096]) {
					fmt.Printf("offset %d: %d bytes, not those wanted, %v\n", off, n, err)
					os.Exit(1)
				}
			}
		})
	}
	io.Copy(io.Discard, os.Stdin)
	for n := reads.Load(); reads.Load() < n+100; {
		time.Sleep(time.Millisecond)
	}
	stop.Store(true)
	all.Wait()
	fmt.Println(reads.Load(), "reads")
}

func self(env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// startServing has a process serve the mount of which lent is a part, and returns when it does.
func startServing(t *testing.T, lent *os.File, image string) *exec.Cmd {
	t.Helper()
	cmd := self("LOOP_TEST_SERVE=" + image)
	cmd.ExtraFiles = []*os.File{lent}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	line := make([]byte, len("serving\n"))
	if _, err := io.ReadFull(out, line); string(line) != "serving\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// A file system is mounted on a device of a held mount, and those who serve that
// are killed at random instants while 16 read past the page cache.
func TestHeldFileSystem(t *testing.T) {
	canAttach(t, "mkfs.ext4", "mount", "umount")
	kills := 5
	if os.Getenv("CARAVEL_LONG") != "" {
		kills = 50
	}
	content, image := t.TempDir(), write(t, make([]byte, 48<<20))
	like := filepath.Join(content, "like")
	if err := os.WriteFile(like, random(32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-d", content, image)

	h, err := fusefs.Hold(t.TempDir(), fusefs.Options{AsyncDirect: true})
	if errors.Is(err, fusefs.ErrNoResend) {
		t.Skipf("%s: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	lent, err := h.Lend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lent.Close() })
	p := startServing(t, lent, image)
	d, err := loop.Attach(filepath.Join(h.Dir, "disk"), loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Detach() })
	if err := h.Detach(); err != nil {
		t.Fatal(err)
	}
	point := t.TempDir()
	run(t, "mount", "-o", "ro", d.Path, point)
	t.Cleanup(func() { exec.Command("umount", "-l", point).Run() })

	r := self("LOOP_TEST_READ="+filepath.Join(point, "like"), "LOOP_TEST_LIKE="+like)
	var said strings.Builder
	r.Stdout = &said
	stop, err := r.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	for range kills {
		time.Sleep(time.Duration(rand.IntN(100_000)) * time.Microsecond)
		kill(p)
		p = startServing(t, lent, image)
	}
	hung := time.AfterFunc(30*time.Second, func() {
		h.Close() // and so all reads fail
		lent.Close()
		p.Process.Kill()
	})
	defer hung.Stop()
	stop.Close()
	if err := r.Wait(); err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
	t.Logf("%d kills, %s", kills, said.String())

	if err := errors.Join(h.Close(), lent.Close()); err != nil { // who serves now is the last to do so
		t.Error(err)
	}
	run(t, "umount", point)
	run(t, "cmp", image, d.Path)
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the one who serves, at the end of the mount: %v", err)
	}
}

func TestInherit(t *testing.T) {
	canAttach(t)
	d := attached(t, memory(random(1<<20)), 1<<20, loop.Options{})
	f, err := d.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(); err != nil {
		t.Fatal(err)
	}
	heir, err := loop.Inherit(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if heir.Path != d.Path {
		t.Errorf("%s, was %s", heir.Path, d.Path)
	}
	if err := heir.Detach(); err != nil {
		t.Error(err)
	}

	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := loop.Inherit(null); err == nil || !strings.Contains(err.Error(), "loop: /dev/null: inappropriate ioctl") {
		t.Errorf("of another device: %v", err)
	}
}
