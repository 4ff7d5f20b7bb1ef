//go:build linux

package fusefs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint finds the directory to mount on, its path without symbolic
// links. It makes the directory if it may, and clears away a mount of ours
// whose process was killed.
func mountPoint(dir string, opt Options) (path string, made bool, err error) {
	path, err = resolve(dir)
	if errors.Is(err, unix.ENOENT) && opt.Mkdir {
		if err = os.Mkdir(dir, 0o777); err == nil {
			made = true
			path, err = resolve(dir)
		}
	}
	if err != nil {
		return "", false, fmt.Errorf("fusefs: %s: %w", dir, reason(err))
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
		return "", false, fmt.Errorf("fusefs: %s: %w", dir, reason(err))
	case !st.IsDir():
		return "", false, fmt.Errorf("fusefs: %s: not a directory", dir)
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

// resolve works on a mount that answers nothing any more, where
// filepath.EvalSymlinks fails: O_PATH asks the file system for nothing.
func resolve(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// clearDead unmounts what killed processes have left on path, and refuses one
// of ours that lives.
func clearDead(path string, opt Options) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Type != unix.FUSE_SUPER_MAGIC {
		return nil // without reading a table of thousands of mounts
	}
	for {
		all, err := mounts()
		if err != nil {
			return err
		}
		top := topmost(all, path)
		if top.fsType != "fuse."+subtype {
			return nil
		}
		// Attributes are the kernel's for ever; statfs is asked each time.
		err = unix.Statfs(path, &fs)
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return fmt.Errorf("fusefs: %s: %s is mounted there already", path, subtype)
		}
		opt.Log.Warn("removing the mount of a process that was killed", "dir", path)
		if err := detach(path, unix.MNT_DETACH); err != nil {
			return err
		}
	}
}

// A mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	device uint64
	point  string
	fsType string
}

func mounts() ([]mountEntry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("fusefs: %w", err)
	}
	defer f.Close()
	var all []mountEntry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlays have long options
	for lines.Scan() {
		if e, ok := parseMount(lines.Text()); ok {
			all = append(all, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("fusefs: /proc/self/mountinfo: %w", err)
	}
	return all, nil
}

// parseMount reads "36 35 98:0 /root /point options [tags] - type source …".
func parseMount(line string) (mountEntry, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, types := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(types) == 0 {
		return mountEntry{}, false
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
		return mountEntry{}, false
	}
	return mountEntry{unix.Mkdev(major, minor), unescapeMount(fields[4]), types[0]}, true
}

// unescapeMount undoes the kernel's \ooo for space, tab, newline, backslash.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// topmost returns what one sees at path, the zero entry if nothing is mounted
// right there.
func topmost(all []mountEntry, path string) (top mountEntry) {
	path = filepath.Clean(path)
	for _, e := range all {
		if e.point == path {
			top = e
		}
	}
	return top
}
