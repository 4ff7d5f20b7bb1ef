package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A conn is one client, from its greeting to its end.
type conn struct {
	srv *Server
	net net.Conn        // below TLS, if there is any
	raw syscall.RawConn // of net; nil: it is no socket of the system's
	tls *tls.Conn       // nil: all is in the clear; belongs to who negotiates, constant after that
	in  *bufio.Reader   // belongs to who negotiates, then to who leads
	log *slog.Logger

	peer string // who it is, for a fair share of the slots

	// Settled by the negotiation, constant after it.
	export     *export
	structured bool          // replies
	contexts   []metaContext // that BLOCK_STATUS tells of

	life context.Context // of the reads; ends with the connection
	end  context.CancelCauseFunc
	work sync.WaitGroup // who leads, and who does requests handed over

	// When the sending that is under way, and the payload, must be through if
	// memory or slots are short, in ns since 1970; 0: there is none.
	sendBy, payloadBy atomic.Int64
	chooseBy          atomic.Int64 // the same of the negotiation, if others wait to be served

	mu       sync.Mutex // guards all below
	room     sync.Cond  // signalled when admit may try again
	draining bool       // take no more requests
	dead     bool       // answer no more either
	requests int        // in flight: admitted, and not yet written
	rested   time.Time  // when there were none any more; zero: it need not make way for that
	bytes    int64      // that their payloads take
	turn     turn
	queue    []*job // replies to be written
	queued   int    // bytes of them
	writing  bool   // somebody writes, and will look at queue again
	out      writer // belongs to who writes
}

var (
	errGrace   = errors.New("nbd: requests cut off at the end of the grace time")
	errStalled = errors.New("nbd: client takes no replies, or sends no payload, while others wait for memory or to be served")
	errHurry   = errors.New("nbd: client chooses no export while others wait to be served")
	errIdle    = errors.New("nbd: client asks for nothing while others wait to be served")
)

// ServeConn serves one client on nc, which it closes, until the client leaves
// or ctx ends; requests that have arrived by then are still answered, for the
// time of grace at most. The error says what ended the connection; it is nil
// if the client or ctx did.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	return s.attend(ctx, nc, (*conn).serve)
}

// attend looks after one client, which serve serves.
func (s *Server) attend(ctx context.Context, nc net.Conn, serve func(*conn) error) error {
	c := s.newConn(ctx, nc)
	defer s.forget(c)
	c.log.Debug("nbd: client connected")

	done := make(chan error, 1)
	go func() { done <- serve(c) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	c.drain()
	grace := time.NewTimer(s.opt.Grace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		c.kill(errGrace)
		return <-done
	}
}

func (s *Server) newConn(ctx context.Context, nc net.Conn) *conn {
	roomy(nc)
	c := &conn{srv: s, net: nc, raw: rawOf(nc), in: bufio.NewReaderSize(nc, 4<<10)}
	c.peer = peer(nc.RemoteAddr())
	c.log = s.opt.Log.With("client", nc.RemoteAddr().String())
	c.room.L = &c.mu
	// Not ctx itself: reads may go on for the time of grace.
	c.life, c.end = context.WithCancelCause(context.WithoutCancel(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c
}

// sendRoom is what a Unix socket shall take without its reader: replies of the
// size that copies ask for (256 KiB for nbdcopy) in one piece. What the system
// gives by itself (208 KiB) makes two writes of each, with a switch between them. TCP
// sees to it by itself, and would not any more.
const sendRoom = 1 << 20

// roomy makes the socket's buffer of what is sent large enough.
func roomy(nc net.Conn) {
	if u, ok := nc.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(sendRoom) // as much of it as the system allows
	}
}

// rawOf is the system's socket behind a connection, or nil.
func rawOf(nc net.Conn) syscall.RawConn {
	if socket, ok := nc.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

func (s *Server) forget(c *conn) {
	c.kill(net.ErrClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// shed ends the clients that do not take, or send, what is under way: some of them
// hold memory for it.
func (s *Server) shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	for c := range s.conns {
		if c.stalled(now) {
			c.kill(errStalled)
		}
	}
}

// stalled reports whether what is being sent, or a payload, is late.
func (c *conn) stalled(now int64) bool {
	send, payload := c.sendBy.Load(), c.payloadBy.Load()
	return send != 0 && send < now || payload != 0 && payload < now
}

func (c *conn) serve() error {
	defer c.farewell()
	c.chooseBy.Store(time.Now().Add(hurry).UnixNano())
	export, err := c.negotiate()
	c.chooseBy.Store(0)
	if err != nil {
		if c.stopping() && errors.Is(err, errTimeout) {
			return nil
		}
		return fmt.Errorf("nbd: negotiation: %w", err)
	}
	if export == nil {
		return nil
	}
	c.choose(export)
	c.rest()
	return c.transmit()
}

// rest begins the time in which the client has no request under way.
func (c *conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rested = time.Now()
}

func (c *conn) choose(e *export) {
	c.export = e
	c.log = c.log.With("export", e.Name)
	c.log.Debug("nbd: export chosen", "structured", c.structured, "contexts", len(c.contexts))
}

// longAgo as a deadline has reads end at once.
var longAgo = time.Unix(1, 0)

// drain makes the connection end when it has answered what has arrived, or begun
// to.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.net.SetReadDeadline(longAgo)
}

func (c *conn) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// setDeadline sets the time limit of the negotiation, or none.
func (c *conn) setDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return errTimeout
	}
	return c.net.SetDeadline(t)
}

// kill ends the connection at once, for the reason err unless there was one
// before.
func (c *conn) kill(err error) {
	c.end(err)
	c.net.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	c.room.Broadcast()
}

// ended is what ended the connection, nil if it was no fault.
func (c *conn) ended() error {
	err := context.Cause(c.life)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
