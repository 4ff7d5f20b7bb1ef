//go:build unix

package diskcache

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// The files that processes have in common.
const (
	usageName = "usage"
	lockName  = "lock"
)

// updateUsage changes the usage file, under a lock. It reports false if that is
// not possible now; another process never holds the lock for long, unless it is
// stopped, and then we do not wait for it.
func (p *place) updateUsage(change func(u usage, valid bool) usage) (usage, bool) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(p.root, usageName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return usage{}, false
	}
	defer unix.Close(fd)
	if !lockBriefly(fd) {
		return usage{}, false
	}
	var b [usageSize + 1]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, b[:], 0) })
	if err != nil {
		return usage{}, false
	}
	was, valid := decodeUsage(b[:n])
	now := change(was, valid)
	if valid && now == was {
		return now, true
	}
	if n > usageSize {
		unix.Ftruncate(fd, 0)
	}
	_, err = retry(func() (int, error) { return unix.Pwrite(fd, now.encode(), 0) })
	return now, err == nil
}

// lockBriefly locks a file that others lock for microseconds only. Where there
// are no locks, it goes on without: a wrong count is found out.
func lockBriefly(fd int) bool {
	for range 100 {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK && err != unix.EINTR {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// lock takes the lock that the janitor holds while it looks; unlock gives it
// back. It reports false if another has it.
func (p *place) lock() (unlock func(), ok bool) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(p.root, lockName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, false
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
		unix.Close(fd)
		return nil, false
	}
	return func() { unix.Close(fd) }, true
}
