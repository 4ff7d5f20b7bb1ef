package treeoverlay

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"caravel/internal/apart"
)

// copyAttributes gives a directory the owner, mode, extended attributes and times of
// another one, which this process may serve itself. Where it may not, or the file
// system keeps no such thing, it goes without.
func copyAttributes(to, from string) error {
	var err error
	apart.Do(func() { err = copyDir(to, from) })
	if err != nil {
		return fmt.Errorf("attributes of the root: %w", err)
	}
	return nil
}

func copyDir(to, from string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	if err := unix.Chown(to, int(st.Uid), int(st.Gid)); err != nil && !without(err) {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	names, err := sized(func(b []byte) (int, error) { return unix.Listxattr(from, b) })
	if err != nil && !without(err) {
		return err
	}
	for name := range bytes.SplitSeq(names, []byte{0}) {
		name := string(name)
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.fuseoverlayfs.") {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Getxattr(from, name, b) })
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := unix.Setxattr(to, name, value, 0); err != nil && !without(err) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// without reports whether an attribute can be done without.
func without(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || os.Geteuid() != 0 && errors.Is(err, unix.EPERM)
}

// sized reads something of which the kernel says how long it is, and which it bounds.
func sized(read func([]byte) (int, error)) ([]byte, error) {
	n, err := read(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = read(b)
	return b[:max(n, 0)], err
}
