package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// conns are the connections of a server, at most so many. For one more, one that
// serves no request goes, the longest idle first; if there is none it waits.
type conns struct {
	most int

	mu      sync.Mutex
	changes sync.Cond          // there is room, no request is left, or it is closed; with mu
	open    map[net.Conn]*conn // guarded by mu
	resting list.List          // of *conn without a request, the longest first; guarded by mu
	serving int                // requests; guarded by mu
	evicted int64              // guarded by mu
	closed  bool               // guarded by mu
}

// A conn is one of them.
type conn struct {
	net.Conn
	until    time.Time     // the deadline for writing that the last request has left; HTTP/1 only, for who serves one
	requests int           // guarded by conns.mu
	rest     *list.Element // nil: it serves, or has gone; guarded by conns.mu
}

func newConns(most int) *conns {
	c := &conns{most: most, open: make(map[net.Conn]*conn)}
	c.changes.L = &c.mu
	return c
}

// limit is a listener whose connections count. They come as they are: wrapped, they
// could not be written to by sendfile.
func (c *conns) limit(l net.Listener) net.Listener { return limited{l, c} }

type limited struct {
	net.Listener
	conns *conns
}

func (l limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.conns.admit(c) {
		c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// admit makes room for a connection; false if the server ends.
func (c *conns) admit(n net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) >= c.most && !c.closed {
		if c.resting.Len() > 0 {
			oldest := c.resting.Front().Value.(*conn)
			c.drop(oldest)
			c.evicted++
			oldest.Close()
		} else {
			c.changes.Wait()
		}
	}
	if c.closed {
		return false
	}
	one := &conn{Conn: n}
	one.rest = c.resting.PushBack(one)
	c.open[n] = one
	return true
}

// drop forgets a connection, for a caller that holds mu.
func (c *conns) drop(one *conn) {
	delete(c.open, one.Conn)
	if one.rest != nil {
		c.resting.Remove(one.rest)
		one.rest = nil
	}
	c.changes.Broadcast()
}

// raw is a connection as it was accepted.
func raw(n net.Conn) net.Conn {
	if p, ok := n.(*passed); ok {
		return p.Conn
	}
	if t, ok := n.(*tls.Conn); ok {
		return t.NetConn()
	}
	return n
}

// changed is the http.Server's ConnState.
func (c *conns) changed(n net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[raw(n)]; one != nil {
		c.drop(one)
	}
}

// connKey is where a request's context has its conn.
type connKey struct{}

// context is the http.Server's ConnContext.
func (c *conns) context(ctx context.Context, n net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c.of(raw(n)))
}

// of is the conn of a connection as it was accepted; nil: it had to go meanwhile.
func (c *conns) of(n net.Conn) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[n]
}

// begin takes note of a request; the caller calls end after it. one may be nil.
func (c *conns) begin(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving++
	if one == nil {
		return
	}
	one.requests++
	if one.rest != nil {
		c.resting.Remove(one.rest)
		one.rest = nil
	}
}

func (c *conns) end(one *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving--
	if one != nil {
		one.requests--
		if one.requests == 0 && c.open[one.Conn] == one {
			one.rest = c.resting.PushBack(one)
		}
	}
	if c.closed || c.resting.Len() == 1 {
		c.changes.Broadcast()
	}
}

// close has Accept end, also one that waits for room.
func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changes.Broadcast()
}

// wait returns when no request is served any more.
func (c *conns) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.serving > 0 {
		c.changes.Wait()
	}
}

// counts are the connections, those of them that serve nothing, and how many had to
// go for others.
func (c *conns) counts() (open, resting int, evicted int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.resting.Len(), c.evicted
}
