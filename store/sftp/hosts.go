package sftp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Hosts are sessions with servers, which the Dirs that are given it share. Its
// methods may be called from many goroutines.
type Hosts struct {
	life context.Context
	end  context.CancelCauseFunc

	mu    sync.Mutex // guards pools
	pools map[key]*pool
}

// A key tells sessions apart that cannot be shared.
type key struct {
	server
	ssh         string
	sessions    int
	stall, idle time.Duration
}

// NewHosts are none yet.
func NewHosts() *Hosts {
	h := &Hosts{pools: map[key]*pool{}}
	h.life, h.end = context.WithCancelCause(context.Background())
	return h
}

// Close ends all sessions, whatever they are at, and returns when nothing of them
// runs any more. No Dir that shares them is of use then.
func (h *Hosts) Close() error {
	h.end(errClosed)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		p.close()
	}
	return nil
}

func (h *Hosts) pool(k key) *pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.pools[k]
	if !ok {
		p = &pool{key: k, life: h.life}
		h.pools[k] = p
	}
	return p
}

const (
	// busy is how many at work with a session make another one worth a process
	// and a login.
	busy = 8

	// crowd is how many may be at work with a session while another one begins;
	// more wait for that. Each has a file open on the server, which has a limit.
	crowd = 64

	// holdOff is how long the sessions that there are do, when the server has not
	// taken another one.
	holdOff = 10 * time.Second
)

// A pool is the sessions with one server.
type pool struct {
	key
	life context.Context // ends with the Hosts
	work sync.WaitGroup  // sessions, from their beginning to their end

	mu       sync.Mutex // guards what follows, and the load of sessions
	sessions []*session // that live
	dialing  *dialing   // nil: none begins
	hold     time.Time  // no further one before
	closed   bool
}

// A dialing is a session that begins.
type dialing struct {
	done chan struct{} // closed when it lives, or err is set
	err  error
}

// get is the session with the least to do. It begins one if there is none, or if
// all have enough to do.
func (p *pool) get(ctx context.Context) (*session, error) {
	for ctx.Err() == nil {
		s, begins, err := p.pick()
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-begins.done:
			if begins.err != nil && p.none() {
				return nil, begins.err
			}
		case <-ctx.Done():
		}
	}
	return nil, context.Cause(ctx)
}

func (p *pool) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions) == 0
}

// pick takes a session, or says which one to wait for.
func (p *pool) pick() (*session, *dialing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	var best *session
	for _, s := range p.sessions {
		if best == nil || s.load < best.load {
			best = s
		}
	}
	more := len(p.sessions) < p.key.sessions && best != nil && best.load >= busy && time.Now().After(p.hold)
	if p.dialing == nil && (best == nil || more) {
		begins := &dialing{done: make(chan struct{})}
		p.dialing = begins
		p.work.Go(func() { p.run(begins) })
	}
	if best != nil && (best.load < crowd || p.dialing == nil) {
		best.load++
		best.idle.Stop()
		return best, nil, nil
	}
	return nil, p.dialing, nil
}

// run is the life of a session.
func (p *pool) run(begins *dialing) {
	s, err := p.begin()
	p.mu.Lock()
	p.dialing = nil
	if err != nil {
		begins.err, p.hold = err, time.Now().Add(holdOff)
	} else {
		p.sessions = append(p.sessions, s)
		s.idle.Reset(p.idle) // whoever waited may be gone
	}
	p.mu.Unlock()
	close(begins.done)
	if err == nil {
		s.run()
	}
}

// remove takes a session that ends out of the choice.
func (p *pool) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.idle.Stop()
	if i := slices.Index(p.sessions, s); i >= 0 {
		p.sessions = slices.Delete(p.sessions, i, i+1)
	}
}

// tire ends a session that has had nothing to do.
func (p *pool) tire(s *session) {
	p.mu.Lock()
	tired := s.load == 0
	p.mu.Unlock()
	if tired {
		s.retire()
	}
}

// close waits until no session lives; life has ended.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.work.Wait()
}

var errClosed = errors.New("closed")
