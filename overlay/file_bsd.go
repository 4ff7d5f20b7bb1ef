//go:build darwin || freebsd

package overlay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// noFollow keeps from opening what a link points to, and from waiting for the
// other end of a pipe.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// bootID is the ID that the kernel has given itself when it started.
func bootID() (id [bootSize]byte, err error) {
	for _, name := range []string{"kern.bootsessionuuid", "kern.boot_id"} { // darwin's, freebsd's
		text, err := unix.Sysctl(name)
		if err != nil {
			continue
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
		if err != nil || len(raw) != bootSize {
			return id, fmt.Errorf("%s: %q is none", name, text)
		}
		return [bootSize]byte(raw), nil
	}
	return id, fmt.Errorf("the kernel has none: %w", errors.ErrUnsupported)
}

// lock locks a file against other openings of it, for as long as it is open.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errInUse
	}
	return err
}

func dataSync(f *os.File) error { return f.Sync() }

func punch(*os.File, int64, int64) error     { return errors.ErrUnsupported }
func zeroRange(*os.File, int64, int64) error { return errors.ErrUnsupported }
func allocate(*os.File, int64, int64) error  { return errors.ErrUnsupported }

// seekData takes all for data, and seekHole for a file without holes.
func seekData(_ *os.File, off int64) (int64, error) { return off, nil }
func seekHole(*os.File, int64) (int64, error)       { return 0, errors.ErrUnsupported }
