//go:build !linux

package main

import (
	"errors"
	"net"
	"os"
)

// listenPrivately makes a Unix socket that only its owner may connect to.
func listenPrivately(path string) (net.Listener, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
