package main

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// listenPrivately makes a Unix socket that only its owner may connect to. The
// mode is that of the socket before it has a name, so there is no moment at
// which others could.
func listenPrivately(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		err := c.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	return config.Listen(context.Background(), "unix", path)
}
