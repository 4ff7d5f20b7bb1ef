package mounts

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// PointOptions tune Point.
type PointOptions struct {
	Mkdir bool         // make the directory if it is not there
	Types []string     // of mounts that are ours: a dead one is cleared away, one that lives is refused
	Who   string       // mounts them, for people
	Log   *slog.Logger // of what was cleared away
}

// Point finds the directory to mount on, its path without symbolic links, and says
// whether it was made. It clears away a FUSE mount of ours whose process was killed.
func Point(dir string, opt PointOptions) (path string, made bool, err error) {
	path, err = Resolve(dir)
	if errors.Is(err, unix.ENOENT) && opt.Mkdir {
		if err = os.Mkdir(dir, 0o777); err == nil {
			made = true
			path, err = Resolve(dir)
		}
	}
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", dir, reason(err))
	}
	if made {
		return path, true, nil
	}
	if err := clearDead(path, opt); err != nil {
		return "", false, err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("%s: %w", dir, reason(err))
	case !st.IsDir():
		return "", false, fmt.Errorf("%s: not a directory", dir)
	}
	return path, false, nil
}

// reason leaves out what the caller says anyway.
func reason(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// Resolve is the path of a directory without symbolic links. It works on a mount that
// answers nothing any more, where filepath.EvalSymlinks fails: O_PATH asks the file
// system for nothing.
func Resolve(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// clearDead unmounts what killed processes have left on path, and refuses one
// of ours that lives.
func clearDead(path string, opt PointOptions) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Type != unix.FUSE_SUPER_MAGIC {
		return nil // without reading a table of thousands of mounts
	}
	for {
		all, err := Table()
		if err != nil {
			return err
		}
		if !slices.Contains(opt.Types, Top(all, path).Type) {
			return nil
		}
		// Attributes are the kernel's for ever; statfs is asked each time.
		err = unix.Statfs(path, &fs)
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return fmt.Errorf("%s: %s is mounted there already", path, opt.Who)
		}
		opt.Log.Warn("removing the mount of a process that was killed", "dir", path)
		if err := Detach(path, unix.MNT_DETACH); err != nil {
			return err
		}
	}
}
