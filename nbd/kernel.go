package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// ServeKernel serves the device that the kernel has made of the export called
// name, on nc, which it closes. There is no negotiation, the kernel sends
// requests at once. It returns nil when the device was detached, io.EOF when the
// kernel closed the connection without a word, as its device wants another one,
// and ctx's error when ctx ended: then every request that was taken from nc is
// answered, and whoever has another descriptor of nc may go on with the next one. If
// that takes longer than the time of grace, the error is another one.
func (s *Server) ServeKernel(ctx context.Context, nc net.Conn, name string) error {
	e := s.byName[name]
	if e == nil {
		nc.Close()
		return fmt.Errorf("nbd: export %q: there is none", name)
	}
	return s.attend(ctx, nc, func(c *conn) error { return c.serveKernel(ctx, e) })
}

// Cut ends all connections at once. What is in flight stays without an answer:
// the kernel asks again on another connection, or does not care any more as its
// device is gone. ServeKernel then returns io.EOF.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.kill(net.ErrClosed)
	}
}

func (c *conn) serveKernel(ctx context.Context, e *export) error {
	// The kernel writes each request at once, and those without a payload fill the
	// buffer to its end: seldom is one cut, of which the rest has to be waited for.
	c.in = bufio.NewReaderSize(c.net, 128*requestSize)
	c.choose(e)
	if err := c.transmit(); err != nil {
		return err
	}
	switch cause := context.Cause(c.life); {
	case errors.Is(cause, io.EOF), errors.Is(cause, net.ErrClosed), errors.Is(cause, syscall.ECONNRESET):
		return io.EOF
	case c.stopping():
		return ctx.Err()
	}
	return nil
}
