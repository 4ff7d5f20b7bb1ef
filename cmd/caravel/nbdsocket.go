package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// longestSocket is how many bytes the path of a Unix socket has at most: the
// kernel's address has room for that many and a zero.
const longestSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

// socketPath is the path that the user means. One that begins with "@" is a file,
// too, and not a name without one, which everybody on the machine could connect to.
func socketPath(typed string) (string, error) {
	path := typed
	if strings.HasPrefix(path, "@") {
		path = "./" + path
	}
	if len(path) > longestSocket {
		return "", usagef("--socket=%s: a path of %d bytes; that of a socket has at most %d", typed, len(path), longestSocket)
	}
	return path, nil
}

// listenUnix takes the place of a socket that nobody listens on any more, and
// of nothing else.
func listenUnix(typed string) (net.Listener, error) {
	path, err := socketPath(typed)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// Two that start at once would take each other's new socket for a dead one, which
	// it is until it listens.
	unlock := lockDir(filepath.Dir(path))
	defer unlock()
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s: is there already, and is no socket", path)
		}
		if err := removeDead(path); err != nil {
			return nil, err
		}
	}
	l, err := listenPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, netCause(err))
	}
	return l, nil
}

// removeDead removes a socket if nobody listens on it.
func removeDead(path string) error {
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("%s: another server listens there", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: perhaps another server listens there: %w", path, netCause(err))
	}
	return os.Remove(path)
}
