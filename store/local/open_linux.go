package local

import (
	"io"
	"os"
	"time"

	"caravel/store"

	"golang.org/x/sys/unix"
)

// openFile opens a regular file with two system calls; package os makes more.
func openFile(path string, follow bool) (readFile, store.Info, error) {
	fd, info, err := openRegular(path, follow)
	if err != nil {
		return nil, store.Info{}, err
	}
	return &fdFile{fd}, info, nil
}

func openRegular(path string, follow bool) (int, store.Info, error) {
	flags := unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY // a FIFO must not stop us
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := retry(func() (int, error) { return unix.Open(path, flags, 0) })
	if err != nil {
		return -1, store.Info{}, err
	}
	var st unix.Stat_t
	if _, err = retry(func() (int, error) { return 0, unix.Fstat(fd, &st) }); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotFile
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written
		return -1, store.Info{}, err
	}
	return fd, store.Info{Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}, nil
}

// touch gives a file the time of now, which takes the right to write to it, or to
// be its owner; package os asks for the latter.
func touch(path string) error {
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW)
}

// An fdFile is a file of which the runtime knows nothing.
type fdFile struct{ fd int }

// ReadAt reads what one system call gives.
func (f *fdFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := retry(func() (int, error) { return unix.Pread(f.fd, p, off) })
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (f *fdFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Write(f.fd, p[done:]) })
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Close closes the file, the first time.
func (f *fdFile) Close() error {
	if f.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
