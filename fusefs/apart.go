//go:build linux

package fusefs

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// apart calls f, which makes requests of a mount that this process serves, by a
// thread that does not have the descriptors of the connection.
//
// Who waits for an answer cannot be killed. A thread that had them would keep
// the connection open behind the death of all those who could answer: the
// process would never be gone, and whoever looks at the mount would wait for
// ever.
func apart(descriptors []int, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // which does not end with its goroutine
			apart(descriptors, f)
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_FILES); err == nil {
			for _, fd := range descriptors {
				unix.Close(fd) // of this thread only, which ends below
			}
		}
		f()
	}()
	<-done
}
