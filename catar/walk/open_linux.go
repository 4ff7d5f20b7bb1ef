package walk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a name may have come to since the listing.
var (
	errGone    = errors.New("vanished while it was packed")
	errChanged = errors.New("became something else while it was packed")
)

// retry repeats what a signal interrupted: file systems in user space let
// signals through that the runtime uses for itself.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// open opens the child name of at, listed as one of type typ: regular files and
// directories for reading, all others as a mere place, so that nothing happens
// to them. What was put in place of a file since does no harm: links are not
// followed, FIFOs not waited for, and check finds out the rest.
func open(at int, name string, typ uint32) (int, error) {
	const always = unix.O_CLOEXEC | unix.O_NOFOLLOW
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOATIME
	switch typ {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
	default:
		flags = unix.O_PATH
	}
	fd, err := openat(at, name, flags|always)
	if err == unix.EPERM && flags&unix.O_NOATIME != 0 { // neither the owner nor privileged
		fd, err = openat(at, name, flags&^unix.O_NOATIME|always)
	}
	switch err {
	case unix.ENOENT:
		return -1, errGone
	case unix.ELOOP, unix.ENOTDIR, unix.ENXIO: // now a link; no directory; a socket, or a device without a driver
		return -1, errChanged
	case unix.EAGAIN:
		return openLeased(at, name)
	}
	return fd, err
}

func openat(at int, name string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Openat(at, name, flags, 0) })
}

// openLeased opens a regular file that somebody has a lease on (a file server
// does), which takes until that is given back. To wait is safe only on what is
// known to be a file, hence the way round by a descriptor of the place.
func openLeased(at int, name string) (int, error) {
	place, err := open(at, name, unix.S_IFLNK)
	if err != nil {
		return -1, err
	}
	defer unix.Close(place)
	var st unix.Statx_t
	if err := check(place, unix.S_IFREG, &st); err != nil {
		return -1, err
	}
	return openat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", place), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY)
}

// check finds out what fd is, and whether it has the type typ.
func check(fd int, typ uint32, st *unix.Statx_t) error {
	if err := statx(fd, st); err != nil {
		return err
	}
	if uint32(st.Mode)&unix.S_IFMT != typ {
		return errChanged
	}
	return nil
}

func statx(fd int, st *unix.Statx_t) error {
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
	})
	return err
}

// typeOf finds out the type of the child name of at where the listing does not
// say it.
func typeOf(at int, name string) (uint32, error) {
	var st unix.Statx_t
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Statx(at, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	})
	if err == unix.ENOENT {
		err = errGone
	}
	return uint32(st.Mode) & unix.S_IFMT, err
}

func inodeOf(st *unix.Statx_t) Inode {
	return Inode{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
}

// sameMount reports whether a and b are of one mount. Kernels before 5.8 know
// the device only.
func sameMount(a, b *unix.Statx_t) bool {
	if a.Mask&b.Mask&unix.STATX_MNT_ID != 0 {
		return a.Mnt_id == b.Mnt_id
	}
	return sameDevice(a, b)
}

func sameDevice(a, b *unix.Statx_t) bool {
	return a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}
