package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"sync"
	"time"

	"github.com/jlaffaye/ftp"

	"caravel/store"
)

// Hosts are connections with servers, which the Dirs that are given it share. Its
// methods may be called from many goroutines.
type Hosts struct {
	life context.Context
	end  context.CancelCauseFunc

	mu    sync.Mutex // guards pools
	pools map[key]*pool
}

// A key tells connections apart that cannot be shared.
type key struct {
	server
	tls         *tls.Config
	conns       int
	stall, idle time.Duration
}

var errClosed = errors.New("closed")

// NewHosts are none yet.
func NewHosts() *Hosts {
	h := &Hosts{pools: map[key]*pool{}}
	h.life, h.end = context.WithCancelCause(context.Background())
	return h
}

// Close ends all connections, whatever they are at. No Dir that shares them is of
// use then.
func (h *Hosts) Close() error {
	h.end(errClosed)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		for c := p.rested(); c != nil; c = p.rested() {
			c.cut()
		}
	}
	return nil
}

func (h *Hosts) pool(k key) *pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.pools[k]
	if !ok {
		p = &pool{key: k, life: h.life, room: make(chan struct{}, k.conns)}
		p.config = k.tls.Clone()
		if p.config == nil {
			p.config = &tls.Config{}
		}
		if p.config.ServerName == "" {
			p.config.ServerName = k.host
		}
		// Servers want to see that a transfer's connection is its commander's: by
		// its session, which is taken up again.
		p.config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		h.pools[k] = p
	}
	return p
}

// A pool is the connections with one server.
type pool struct {
	key
	life   context.Context // ends with the Hosts
	config *tls.Config
	room   chan struct{} // holds one for each connection at work

	mu   sync.Mutex // guards free
	free []*conn    // that rest, the last used one last
}

// get is a connection for as long as ctx lasts: release it.
func (p *pool) get(ctx context.Context) (*conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c := p.rested()
	if c == nil {
		c = &conn{pool: p, line: &line{stall: p.stall}}
	}
	c.begin(ctx)
	if c.ServerConn != nil {
		return c, nil
	}
	if err := c.dial(); err != nil {
		c.release(err)
		return nil, err
	}
	return c, nil
}

// rested takes a connection that rests; nil if none does.
func (p *pool) rested() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		return nil
	}
	c := p.free[last]
	p.free = p.free[:last]
	c.tired.Stop()
	return c
}

// A conn is a login.
type conn struct {
	*ftp.ServerConn // nil: not yet
	pool            *pool
	line            *line
	tired           *time.Timer // ends it if it has rested too long
	stop            [2]func() bool
}

// begin has the connection end with ctx, and with the Hosts.
func (c *conn) begin(ctx context.Context) {
	c.line.begin(ctx)
	c.stop = [2]func() bool{context.AfterFunc(ctx, c.cut), context.AfterFunc(c.pool.life, c.cut)}
}

// cut ends the connection under whoever uses it.
func (c *conn) cut() { c.line.close() }

func (c *conn) dial() error {
	options := []ftp.DialOption{ftp.DialWithDialFunc(func(network, address string) (net.Conn, error) {
		return c.open(network, address)
	})}
	switch c.pool.scheme {
	case "ftps":
		options = append(options, ftp.DialWithTLS(c.pool.config))
	case "ftpes":
		options = append(options, ftp.DialWithExplicitTLS(c.pool.config))
	}
	server, err := ftp.Dial(c.pool.addr, options...)
	if err != nil {
		return err
	}
	if err := server.Login(c.pool.user, c.pool.password); err != nil {
		c.cut()
		return loginError(err)
	}
	c.ServerConn = server
	return nil
}

// loginError is err, or a refusal if that is what it says: of a user whom the server
// does not want, the library tells no more than the server's words.
func loginError(err error) error {
	var said *textproto.Error
	var broken net.Error
	if answered(err) || errors.As(err, &said) || errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return err
	}
	return &refusal{fmt.Sprintf("the server says %q to the login", err), store.ErrRefused}
}

// open makes the connection for commands, and later those for transfers.
func (c *conn) open(network, address string) (net.Conn, error) {
	first := c.line.control == nil
	raw, err := c.line.dial(network, address)
	if err != nil {
		return nil, err
	}
	if c.pool.scheme == "ftps" || c.pool.scheme == "ftpes" && !first {
		return tls.Client(raw, c.pool.config), nil
	}
	return raw, nil
}

// release gives the connection back, which has ended in err: the next one takes it
// unless that leaves it in an unknown state.
func (c *conn) release(err error) {
	defer func() { <-c.pool.room }()
	running := true
	for _, stop := range c.stop {
		running = stop() && running
	}
	var ours *refusal
	if c.ServerConn == nil || !running || !answered(err) && !errors.As(err, &ours) {
		c.cut()
		return
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.tired = time.AfterFunc(c.pool.idle, func() { c.pool.tire(c) })
	c.pool.free = append(c.pool.free, c)
}

// tire ends a connection that has rested for long.
func (p *pool) tire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.free {
		if other == c {
			p.free = append(p.free[:i], p.free[i+1:]...)
			c.cut()
			return
		}
	}
}
