package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"caravel/catar/inode"
	"caravel/feature"
)

// excuse returns nil for an error that says no more than that a feature cannot be had here,
// if the user wants to be told so and no more.
func (r *run) excuse(in *dir, name string, err error) error {
	var first *inode.RefusedError
	if r.opt.Refused == nil || !errors.As(err, &first) {
		return err
	}
	all := append([]*inode.RefusedError{first}, first.More...)
	for _, e := range all {
		if e.Feature == 0 {
			return err
		}
	}
	path := in.path(name)
	r.telling.Lock()
	defer r.telling.Unlock()
	for _, e := range all {
		r.opt.Refused(path, e)
	}
	return nil
}

// explain says of what may not be done why not even root may.
func explain(in int, name string, err error) error {
	if errors.Is(err, unix.EPERM) && (sealed(in, "") || sealed(in, name)) {
		return errSealed
	}
	return err
}

// errSealed says why not even root may do it.
var errSealed = fmt.Errorf("%w: what is there is immutable or append-only (--undo-immutable, or chattr -i -a, allows it)", unix.EPERM)

const sealFlags = 0x10 | 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL

// sealed reports whether the node name in the directory dir, or with "" that
// itself, has chattr's +i or +a.
func sealed(dir int, name string) bool {
	const seals = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	return err == nil && st.Attributes&seals != 0
}

// unsealing calls f, and if that may not be done because the node name in the directory in is
// immutable, and the user wants that undone, undoes it and calls f once more.
func (r *run) unsealing(in int, name string, f func() error) error {
	err := f()
	if err != unix.EPERM || !r.opt.UndoImmutable || !sealed(in, name) {
		return err
	}
	if thawErr := thaw(in, name); thawErr != nil {
		return err
	}
	return f()
}

// thaw takes +i and +a from the node name in the directory in, with "" from that itself.
// Only files and directories have them.
func thaw(in int, name string) error {
	fd := in
	if name != "" {
		place, err := open(in, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(place)
		var st unix.Stat_t
		if err := unix.Fstat(place, &st); err != nil {
			return err
		}
		if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
			return unix.EPERM
		}
		if fd, err = open(unix.AT_FDCWD, procName(place), unix.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&sealFlags == 0 {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^sealFlags))
}

// noSubvolume is the error of a file system that knows none.
func noSubvolume(err error) error {
	return &inode.RefusedError{Feature: feature.Subvolume | feature.SubvolumeRO, What: "subvolume", Err: err}
}
