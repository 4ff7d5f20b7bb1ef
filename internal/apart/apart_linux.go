package apart

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread that has no descriptor of the process but those in keep,
// standard error, and what the runtime itself needs. What f opens it has to close,
// as raw descriptors (unix.Open): their numbers mean others elsewhere, so nothing
// that the runtime polls or that a second goroutine uses may be made of them.
//
// Where the thread may not have descriptors of its own, f is called with all.
func Do(f func(), keep ...int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()              // for ever: it ends with its goroutine
		if unix.Gettid() == unix.Getpid() { // this one does not
			Do(f, keep...)
			runtime.UnlockOSThread()
			return
		}
		startPolling()
		if unix.Unshare(unix.CLONE_FILES) == nil {
			closeAllBut(keep)
			// The thread ends some time after done is closed.
			defer closeAll(keep)
		}
		f()
	}()
	<-done
}

// startPolling has the runtime make the descriptors by which it waits for events:
// what is made after a thread has gone its own way is not there on it. A timer needs
// them as a socket does.
func startPolling() { time.AfterFunc(time.Hour, func() {}).Stop() }

// closeAllBut closes the descriptors of this thread, but for those in keep and for
// what the runtime uses on whichever thread it runs: standard error, and those by
// which it polls and is woken, which a collection does too. The
// runtime ends the process where one of these is missing.
func closeAllBut(keep []int) {
	const dir = "/proc/thread-self/fd/"
	all, err := os.ReadDir(dir)
	if err != nil {
		return // all of it stays, which is a risk for one who is killed
	}
	for _, e := range all {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd == unix.Stderr || slices.Contains(keep, fd) {
			continue
		}
		what, err := os.Readlink(dir + e.Name())
		if err == nil && strings.HasPrefix(what, "anon_inode:[event") { // eventpoll, eventfd
			continue
		}
		unix.Close(fd)
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
