//go:build unix

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openLocked opens or makes an unfinished file and takes it for this process.
func openLocked(name string, mode fs.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, mode)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = errors.New("another run is writing it")
			}
			return nil, fmt.Errorf("image: %s: %w", name, err)
		}
		// Between open and lock its owner may have completed and renamed it.
		mine, err := f.Stat()
		if err == nil {
			if now, statErr := os.Lstat(name); statErr == nil && os.SameFile(mine, now) {
				return f, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// canOwn reports why a new file could not be given the owner of an old one.
func canOwn(old fs.FileInfo) error {
	st := old.Sys().(*syscall.Stat_t)
	if euid := os.Geteuid(); euid != 0 && int(st.Uid) != euid {
		return fmt.Errorf("is owned by user %d, which a new file cannot be given", st.Uid)
	}
	return nil
}

// inherit gives f the owner and mode of an old file, the mode last: changing the
// owner clears set-id bits.
func inherit(f *os.File, old fs.FileInfo) error {
	st := old.Sys().(*syscall.Stat_t)
	if mine, err := f.Stat(); err != nil {
		return err
	} else if m := mine.Sys().(*syscall.Stat_t); m.Uid != st.Uid || m.Gid != st.Gid {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(old.Mode())
}

// publish gives the complete file its final name and closes it, in this order:
// until then no other run can take it.
func publish(f *os.File, part, path string) error {
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
