package overlay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// noFollow keeps from opening what a link points to, and from waiting for the
// other end of a pipe.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// bootID is the ID that the kernel has given itself when it started.
func bootID() (id [bootSize]byte, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || copy(id[:], raw) != bootSize || len(raw) != bootSize || id == [bootSize]byte{} {
		return id, fmt.Errorf("/proc/sys/kernel/random/boot_id: %q is none", text)
	}
	return id, nil
}

// lock locks a file against other openings of it, for as long as it is open.
func lock(f *os.File) error {
	err := control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errInUse
	}
	return err
}

func dataSync(f *os.File) error { return control(f, unix.Fdatasync) }

// punch makes a hole.
func punch(f *os.File, off, n int64) error {
	return fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// zeroRange makes zeros that have room on the disk.
func zeroRange(f *os.File, off, n int64) error {
	err := fallocate(f, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := punch(f, off, n); err != nil {
		return err
	}
	return allocate(f, off, n)
}

// allocate gives room on the disk to the holes in a range.
func allocate(f *os.File, off, n int64) error {
	return fallocate(f, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	return control(f, func(fd int) error { return unix.Fallocate(fd, mode, off, n) })
}

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

// seekData finds the first byte at or behind off that is not in a hole.
func seekData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return math.MaxInt64, nil // there is none
	}
	return at, err
}

// seekHole finds the first byte at or behind off that is in a hole, or the end of
// the file.
func seekHole(f *os.File, off int64) (int64, error) { return f.Seek(off, unix.SEEK_HOLE) }
