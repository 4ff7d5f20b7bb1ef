package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A front answers plain requests, and passes all connections on which anything else
// comes to net/http.
type front struct {
	server  *Server
	files   filer
	buffers buffers

	listeners []*passing
	left      sync.WaitGroup // loops and acceptors

	mu     sync.Mutex
	loops  map[*loop]struct{} // guarded by mu
	ending atomic.Bool        // set under mu
}

// newFront is nil if there is nothing that it could answer.
func newFront(s *Server) *front {
	files, ok := s.inner.(filer)
	if !ok || s.opt.TLS != nil {
		return nil
	}
	return &front{server: s, files: files, loops: make(map[*loop]struct{})}
}

// listen is a listener for net/http, of the connections of l that are passed on. They
// are accepted, and counted, by l.
func (f *front) listen(l net.Listener) net.Listener {
	p := &passing{Listener: l, front: f, conns: make(chan accepted), closed: make(chan struct{})}
	f.listeners = append(f.listeners, p)
	f.left.Go(p.accept)
	return p
}

// end has no connection accepted or rest any more, and returns when all are closed or
// passed on: at the end of ctx those that are not yet are cut off.
func (f *front) end(ctx context.Context) {
	for _, p := range f.listeners {
		p.stop()
	}
	f.mu.Lock()
	f.ending.Store(true)
	for l := range f.loops {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // it has gone, then
	}
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for l := range f.loops {
			l.conn.Close()
		}
	})
	defer stop()
	f.left.Wait()
}

// enter takes note of a loop; false if there is to be none any more.
func (f *front) enter(l *loop) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loops[l] = struct{}{}
	return !f.ending.Load()
}

// leave forgets a loop, whose connection nobody here touches from now on.
func (f *front) leave(l *loop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.loops, l)
}

// A passing is the listener of net/http.
type passing struct {
	net.Listener
	front *front
	conns chan accepted

	stopped, over sync.Once
	closed        chan struct{} // net/http accepts nothing any more
}

// accepted is what Accept returns.
type accepted struct {
	net.Conn
	err error
}

// accept starts a loop for each connection. An error is net/http's, which knows what
// passes by: until it has waited and asks again, nothing is accepted.
func (p *passing) accept() {
	for {
		c, err := p.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !p.pass(accepted{err: err}) {
				return
			}
			continue
		}
		p.front.left.Go(func() { p.serve(c) })
	}
}

// pass hands something on to net/http; false if that has ended.
func (p *passing) pass(a accepted) bool {
	select {
	case p.conns <- a:
		return true
	case <-p.closed:
		return false
	}
}

// Accept waits for what is passed on.
func (p *passing) Accept() (net.Conn, error) {
	select {
	case a := <-p.conns:
		return a.Conn, a.err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// stop has nothing accepted any more.
func (p *passing) stop() {
	p.stopped.Do(func() { p.Listener.Close() })
}

// Close is net/http's, which wants nothing any more.
func (p *passing) Close() error {
	p.stop()
	p.over.Do(func() { close(p.closed) })
	return nil
}

// serve has a loop serve a connection, until it is closed or passed on.
func (p *passing) serve(c net.Conn) {
	one := p.front.server.conns.of(c)
	if one == nil { // it had to go
		return
	}
	others, before := true, []byte(nil)
	if l := newLoop(p.front, c, one); l != nil {
		others = p.front.enter(l) && l.run()
		p.front.leave(l)
		l.disarm()
		before = bytes.Clone(l.rest())
	}
	if !others || !p.pass(accepted{Conn: &passed{c, before}}) {
		c.Close()
		p.front.server.conns.changed(c, http.StateClosed)
	}
}
