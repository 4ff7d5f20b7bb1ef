package diskuse

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An InUseError says who uses a disk that cannot be taken away therefore.
type InUseError struct {
	Path  string
	Users []string // as Of has them
}

func (e *InUseError) Error() string {
	if len(e.Users) == 0 {
		return e.Path + ": in use: by an unknown user"
	}
	return e.Path + ": in use: " + strings.Join(e.Users, ", ")
}

// Claim opens the disk at path so that it cannot be mounted or built into another
// device as long as the descriptor is open, which the caller closes. If somebody
// uses it already the error is an [InUseError]; descriptors of this process in ours
// do not count.
func Claim(path string, ours ...int) (fd int, err error) {
	return claim(path, func(o opener) bool { return o.has(ours) })
}

// Free makes sure that nobody uses the disk at path but for processes that have it
// open: those that serve it. The error is an [InUseError] otherwise.
func Free(path string, servers ...int) error {
	return Patiently(func() error {
		fd, err := claim(path, func(o opener) bool { return o.isOneOf(servers) })
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

func claim(path string, ours func(opener) bool) (fd int, err error) {
	// An exclusive descriptor cannot be had while the disk is mounted or part of
	// another.
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == unix.EBUSY {
		return -1, &InUseError{path, of(path, ours)}
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	users := of(path, func(o opener) bool { return o.has([]int{fd}) || ours(o) })
	if len(users) > 0 {
		unix.Close(fd)
		return -1, &InUseError{path, users}
	}
	return fd, nil
}

const (
	patience = 500 * time.Millisecond // for programs that look at a disk in passing
	pause    = 25 * time.Millisecond  // each try looks at what all processes have open
)

// Patiently gives f, which takes a disk that nobody uses, some time to succeed:
// there are programs that look at each disk in passing.
func Patiently(f func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
