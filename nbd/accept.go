package nbd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"
)

// accept waits for a client. Where the process or the system is out of
// descriptors or memory it waits for better times, as the clients that are there go on.
func accept(ctx context.Context, l net.Listener, log *slog.Logger) (net.Conn, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		nc, err := l.Accept()
		if !passing(err) {
			return nc, err
		}
		log.Warn("nbd: client not accepted", "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passing reports whether the next Accept may well succeed.
func passing(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
	}, func(one error) bool { return errors.Is(err, one) })
}
