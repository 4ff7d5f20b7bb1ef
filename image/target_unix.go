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

// openLocked opens or makes an unfinished file and takes it for this process. One that somebody
// else may have put there is refused: its name can be known, and what is written to it would be
// in his hands. It belongs to us or to the owner of old, the file that it replaces.
func openLocked(name string, mode fs.FileMode, old fs.FileInfo) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
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
		if err == nil && !isOurs(mine, old) {
			f.Close()
			return nil, fmt.Errorf("image: %s: is no unfinished file of ours; remove it", name)
		}
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

// isOurs reports whether a file may be an unfinished one that this user has begun.
func isOurs(st, old fs.FileInfo) bool {
	has := st.Sys().(*syscall.Stat_t)
	ours := has.Uid == uint32(os.Geteuid())
	if old != nil {
		ours = ours || has.Uid == old.Sys().(*syscall.Stat_t).Uid
	}
	return ours && st.Mode().IsRegular() && has.Nlink <= 1 // 0: it was completed meanwhile
}

// inheritOwner gives f the owner of an old file.
func inheritOwner(f *os.File, old fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	has, want := now.Sys().(*syscall.Stat_t), old.Sys().(*syscall.Stat_t)
	if has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	if f.Chown(int(want.Uid), int(want.Gid)) != nil {
		return fmt.Errorf("is owned by user %d and group %d, which a new file cannot be given", want.Uid, want.Gid)
	}
	return nil
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
