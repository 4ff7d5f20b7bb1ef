//go:build unix

package diskcache

import (
	"crypto/rand"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tmpName is the folder of the sessions.
const tmpName = "tmp"

// A session is a folder for the temporary files of one opened cache, locked as
// long as its process lives. What nobody locks was left by one that is dead.
type session struct {
	fd   int
	name string
}

func newSession(tmp int) (session, error) {
	for {
		s := session{name: rand.Text()}
		if err := unix.Mkdirat(tmp, s.name, 0o700); err != nil {
			return session{fd: -1}, err
		}
		fd, err := subfolder(tmp, s.name)
		if err != nil {
			return session{fd: -1}, err
		}
		s.fd = fd
		// Where locks do not work at all, nobody sweeps before its time.
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && s.linked(tmp) {
			return s, nil
		}
		unix.Close(fd) // another process took it for that of a dead one
	}
}

// linked reports whether the folder is still there.
func (s session) linked(tmp int) bool {
	var here, there unix.Stat_t
	return unix.Fstat(s.fd, &here) == nil && unix.Fstatat(tmp, s.name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		here.Ino == there.Ino && here.Dev == there.Dev
}

func (s session) end(tmp int) {
	if s.fd < 0 {
		return
	}
	if tmp >= 0 {
		unix.Unlinkat(tmp, s.name, unix.AT_REMOVEDIR)
	}
	unix.Close(s.fd)
}

// unlockedAge is when a session counts as dead where there are no locks.
const unlockedAge = 24 * time.Hour

// sweepSessions removes the folders of dead processes. What cannot be removed
// stays until the next time.
func sweepSessions(root int) {
	tmp, err := unix.Openat(root, tmpName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(tmp)
	names, err := list(tmp, ".")
	if err != nil {
		return
	}
	for _, name := range names {
		fd, err := unix.Openat(tmp, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			unix.Unlinkat(tmp, name, 0) // no folder: not ours
			continue
		}
		if dead(fd) {
			left, _ := list(fd, ".")
			for _, file := range left {
				unix.Unlinkat(fd, file, 0)
			}
			unix.Unlinkat(tmp, name, unix.AT_REMOVEDIR)
		}
		unix.Close(fd)
	}
}

func dead(fd int) bool {
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return true
	case unix.EWOULDBLOCK:
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && time.Since(time.Unix(st.Mtim.Unix())) > unlockedAge
}

// list is the names in a folder below dir.
func list(dir int, name string) ([]string, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return f.Readdirnames(-1)
}
