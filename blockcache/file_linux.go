package blockcache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// noFollow keeps from opening what a link points to, and from waiting for the
// other end of a pipe.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// How a file is locked.
const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
	now       = unix.LOCK_NB // fail rather than wait
)

// lock locks a file against other openings of it. Where the file system has no
// locks there are none: what they keep apart is a loss of hints.
func lock(f *os.File, how int) error {
	err := control(f, func(fd int) error { return unix.Flock(fd, how) })
	if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

func unlock(f *os.File) {
	_ = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }) // a lock that is ours
}

func dataSync(f *os.File) error { return control(f, unix.Fdatasync) }

// control calls use with a file's descriptor until it is not interrupted.
func control(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if bad := raw.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			err = use(int(fd))
		}
	}); bad != nil {
		return bad
	}
	return err
}

// isFull reports whether a write failed for lack of room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// seekData finds the first byte at or behind off that is not in a hole, or -1 if
// there is none.
func seekData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return -1, nil
	}
	return at, err
}

// seekHole finds the first byte at or behind off that is in a hole, or the end of
// the file.
func seekHole(f *os.File, off int64) (int64, error) { return f.Seek(off, unix.SEEK_HOLE) }
