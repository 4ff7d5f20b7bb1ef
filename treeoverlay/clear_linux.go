package treeoverlay

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
)

// Clear takes away what processes that were killed have left mounted on a directory,
// writable or not, and says so. One that is in use is an error, as it is not to be
// covered; what others have mounted there stays.
func Clear(dir string, log *slog.Logger) error {
	if err := clearPoint(dir, log); err != nil {
		return fmt.Errorf("treeoverlay: %w", err)
	}
	return nil
}

func clearPoint(dir string, log *slog.Logger) error {
	path, err := mounts.Resolve(dir)
	if err != nil {
		return nil // it may be about to be made; else who mounts there says so
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Type != unix.FUSE_SUPER_MAGIC && fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return nil // without reading a table of thousands of mounts
	}
	for {
		all, err := mounts.Table()
		if err != nil {
			return err
		}
		top := mounts.Top(all, path)
		who, dead := left(path, top)
		switch {
		case who == "":
			return nil
		case !dead:
			return fmt.Errorf("%s: %s is mounted there already", path, who)
		}
		if err := takeDead(path, log); err != nil {
			return err
		}
	}
}

// left finds out who has mounted what one sees on a directory, "" if that is none of
// ours, and whether nobody serves it any more.
func left(path string, top mounts.Entry) (who string, dead bool) {
	switch top.Type {
	case "overlay":
		return leftOverlay(unescape(top.Option("upperdir")))
	case "fuse.caravel":
		return "caravel", unserved(path)
	case "fuse." + byProgram: // of which the kernel does not say what it is an overlay of
		return byProgram, unserved(path)
	}
	return "", false
}

// leftOverlay is left for an overlay of the kernel's: that is dead if nobody has its
// folder.
func leftOverlay(upper string) (who string, dead bool) {
	if upper == "" {
		return "", false
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(upper), recordName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	return "caravel", unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}

// unserved reports whether the process that served a FUSE mount is dead. Attributes may
// be the kernel's for ever; statfs is asked each time.
func unserved(path string) bool {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

func takeDead(point string, log *slog.Logger) error {
	log.Warn("removing the mount of a process that was killed", "dir", point)
	return mounts.Detach(point, unix.MNT_DETACH)
}
