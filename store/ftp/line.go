package ftp

import (
	"context"
	"net"
	"sync"
	"time"
)

// trickle is how many bytes count as a sign of life: a server that moves fewer
// within the stall limit, and answers no command, is as good as dead.
const trickle = 1 << 10

// A line is the sockets of a login: one for commands, and at most one for a
// transfer. One clock runs for both: a command waits for its transfer.
type line struct {
	stall time.Duration
	ctx   context.Context // of the one who uses it

	mu            sync.Mutex // guards what follows
	control, data net.Conn
	moved         int // bytes since the clock was wound up
	closed        bool
}

func (l *line) begin(ctx context.Context) {
	l.ctx = ctx
	l.wind()
}

// dial makes a socket.
func (l *line) dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: l.stall}
	raw, err := dialer.DialContext(l.ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		raw.Close()
		return nil, net.ErrClosed
	}
	commands := l.control == nil
	if commands {
		l.control = raw
	} else {
		l.data = raw
	}
	l.mu.Unlock()
	l.wind()
	return &socket{raw, l, commands}, nil
}

// wind has the clock begin anew.
func (l *line) wind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved = 0
	deadline := time.Now().Add(l.stall)
	for _, c := range []net.Conn{l.control, l.data} {
		if c != nil {
			_ = c.SetDeadline(deadline) // a closed one says so when it is used
		}
	}
}

// move counts bytes of a transfer.
func (l *line) move(n int) {
	l.mu.Lock()
	l.moved += n
	enough := l.moved >= trickle
	l.mu.Unlock()
	if enough {
		l.wind()
	}
}

// close ends both sockets under whoever uses them.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range []net.Conn{l.control, l.data} {
		if c != nil {
			c.Close()
		}
	}
}

// A socket winds the clock of its line.
type socket struct {
	net.Conn
	line     *line
	commands bool
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.commands {
		s.line.move(n)
	}
	return n, err
}

func (s *socket) Write(p []byte) (int, error) {
	if s.commands {
		s.line.wind()
		return s.Conn.Write(p)
	}
	// In pieces, of which each takes less than the limit on any line that counts.
	done := 0
	for done < len(p) {
		n, err := s.Conn.Write(p[done:min(len(p), done+16<<10)])
		done += n
		s.line.move(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *socket) Close() error {
	err := s.Conn.Close()
	if !s.commands {
		s.line.wind() // for the server's word on the transfer
	}
	return err
}
