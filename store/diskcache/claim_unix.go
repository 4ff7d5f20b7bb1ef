//go:build unix

package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// markName is the file by which backup programs know caches, see
	// https://bford.info/cachedir/. Its content makes it our mark.
	markName = "CACHEDIR.TAG"
	mark     = "Signature: 8a477f597d28d172789f06886806bc55\n" +
		"# caravel's disk cache, version 1. All of it may be removed at any time.\n"
)

// claim finds our mark in the directory, or makes it in an empty one. Whoever
// else can write there could put files in place of ours.
func claim(path string, root int) (fresh bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return false, failed(path, err)
	}
	if own := os.Geteuid(); int(st.Uid) != own {
		return false, fmt.Errorf("diskcache: %s: belongs to user %d, not to %d: another's cache is not used; name a directory of your own", path, st.Uid, own)
	}
	marked, err := isMarked(path, root)
	if err == nil && !marked {
		marked, err = mayMark(path, root)
	}
	switch {
	case err != nil:
		return false, err
	case marked && st.Mode&0o022 != 0:
		return false, fmt.Errorf("diskcache: %s: others may write there (mode %04o): what is in it cannot be relied on; remove it, or name another directory", path, st.Mode&0o7777)
	case marked:
		return false, nil
	}
	if err := unix.Fchmod(root, 0o700); err != nil {
		return false, failed(path, err)
	}
	// Only now can nobody else make something there, of which he would keep hold.
	if _, err := mayMark(path, root); err != nil {
		return false, err
	}
	return true, putMark(path, root)
}

// isMarked looks for our mark.
func isMarked(path string, root int) (bool, error) {
	got, err := readMark(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, failed(path+"/"+markName, err)
	}
	return got == mark, nil
}

func readMark(root int) (string, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(root, markName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b := make([]byte, len(mark)+1)
	n, err := retry(func() (int, error) { return unix.Read(fd, b) })
	return string(b[:max(n, 0)]), err
}

// mayMark refuses a directory that holds other things. An unfinished mark is
// that of a process that was killed, or is just now making it; marked is true if
// another one has done so meanwhile.
func mayMark(path string, root int) (marked bool, err error) {
	names, err := list(root, ".")
	if err != nil {
		return false, failed(path, err)
	}
	for _, name := range names {
		if name == "lost+found" {
			continue
		}
		if name == markName {
			if got, err := readMark(root); err == nil && strings.HasPrefix(mark, got) {
				continue
			}
		}
		if marked, err := isMarked(path, root); marked || err != nil {
			return marked, err
		}
		return false, fmt.Errorf("diskcache: %s: holds %q and is not marked as a cache of caravel's, which would remove things there; name an empty directory or a new one", path, name)
	}
	return false, nil
}

// putMark writes the mark. Several processes may do so at once.
func putMark(path string, root int) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(root, markName, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return failed(path+"/"+markName, err)
	}
	err = writeAll(fd, []byte(mark))
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		return failed(path+"/"+markName, err)
	}
	return nil
}
