//go:build linux

package loop

import (
	"math"
	"runtime"

	"golang.org/x/sys/unix"
)

// apart calls f on a thread that has no descriptor of the process but keep.
//
// f waits for answers of a file system that this process may serve, and who waits
// for one that is being worked at cannot be killed. A thread that had the
// descriptors would keep the connection to the kernel open behind the death of
// all those who could answer: the process would never be gone, nor the waiting of
// whoever looks there.
func apart(keep int, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: it ends with its goroutine
		if unix.Gettid() == unix.Getpid() {
			apart(keep, f) // this one does not
			runtime.UnlockOSThread()
			return
		}
		if unix.Unshare(unix.CLONE_FILES) != nil {
			f()
			return
		}
		_ = closeAllBut(keep) // Linux 5.9; before, the old risk is taken
		f()
		unix.Close(keep) // or the device is in use until the thread has ended
	}()
	<-done
}

func closeAllBut(keep int) error {
	if keep > 0 {
		if err := unix.CloseRange(0, uint(keep-1), 0); err != nil {
			return err
		}
	}
	return unix.CloseRange(uint(keep+1), math.MaxUint32, 0)
}
