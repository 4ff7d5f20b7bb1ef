//go:build linux || darwin || freebsd

package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long a lock is waited for that is usually held for moments. Who
// may read the folder can hold it as long as he likes, and must not keep others from it.
const lockPatience = 2 * time.Second

// lockDir keeps other processes of ours from making sockets in a folder until unlock,
// and leaves nothing there. Where that does not go, it keeps nobody.
func lockDir(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for deadline := time.Now().Add(lockPatience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
	}
	return func() { f.Close() }
}
