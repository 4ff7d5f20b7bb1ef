package apart_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/apart"
)

func TestMain(m *testing.M) {
	if os.Getenv("APART_TEST_FIRST") != "" {
		apart.Do(collect)
		return
	}
	os.Exit(m.Run())
}

func collect() {
	for range 5 {
		runtime.GC()
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return !errors.Is(err, unix.EBADF)
}

func TestDescriptors(t *testing.T) {
	var fds [3]int
	for i := range fds {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds[i] = fd
	}
	lost, kept := fds[:1], fds[1:]
	apart.Do(func() {
		if unix.Gettid() == unix.Getpid() {
			t.Error("on the process's first thread, which does not end")
		}
		for _, fd := range append(kept, unix.Stderr) {
			if !isOpen(fd) {
				t.Errorf("descriptor %d is not kept", fd)
			}
		}
		if isOpen(lost[0]) {
			t.Error("descriptors of the process are there")
		}
	}, kept...)
	for _, fd := range fds {
		if !isOpen(fd) {
			t.Errorf("descriptor %d is closed elsewhere, too", fd)
		}
	}
}

// A collection polls on the thread that asks for it, and wakes who polls.
func TestCollect(t *testing.T) {
	var busy sync.WaitGroup
	defer busy.Wait()
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		busy.Go(func() { io.Copy(io.Discard, r) })
		busy.Go(func() {
			for {
				select {
				case <-stop:
					w.Close()
					return
				default:
					w.Write([]byte{1})
				}
			}
		})
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				apart.Do(collect)
			}
		})
	}
	all.Wait()
}

// The first thing that a process does is nothing special.
func TestFirst(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "APART_TEST_FIRST=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%.2000s", err, out)
	}
}
