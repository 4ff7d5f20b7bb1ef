package restore

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// again calls f until no signal interrupts it, which file systems behind a
// network or a process let happen.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func open(in int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Openat(in, name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, mode)
		return err
	})
	return fd, err
}

func unlink(in int, name string, flags int) error {
	return again(func() error { return unix.Unlinkat(in, name, flags) })
}

// procName is a path to what fd is open on.
func procName(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
