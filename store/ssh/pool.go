package ssh

import (
	"context"
	"slices"
	"sync"

	"caravel/chunker"
)

// busy is how many requests a session has under way before another one is begun.
const busy = 16

// A pool is the sessions for reading. While there are some that work, nobody waits for
// another one.
type pool struct {
	open func(ctx context.Context) (*puller, error)
	most int

	mu       sync.Mutex // guards what follows
	sessions []*puller
	dialing  *dialing // nil: none is begun
	enough   bool     // another one could not be had
	closed   bool
	work     sync.WaitGroup
}

// A dialing is a session that is begun, for whoever waits for it.
type dialing struct {
	done   chan struct{} // closed when puller and err are set
	cancel context.CancelFunc
	puller *puller
	err    error
}

// pick finds the session that has the least to do and can be asked for a chunk, or
// begins one.
func (p *pool) pick(ctx context.Context, id chunker.ID) (*puller, error) {
	best, d, err := p.choose(id)
	if best != nil || err != nil {
		return best, err
	}
	select {
	case <-d.done:
		return d.puller, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// choose is pick without waiting: it returns a session, or the dialing to wait for.
func (p *pool) choose(id chunker.ID) (*puller, *dialing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	p.sessions = slices.DeleteFunc(p.sessions, func(s *puller) bool { return s.over() })
	var best *puller
	load, count := 0, 0
	for _, s := range p.sessions {
		if s.retired.Load() {
			continue
		}
		count++
		if n := s.load(); s.gives(id) && (best == nil || n < load) {
			best, load = s, n
		}
	}
	if best == nil && count >= p.most { // all have been asked, so others take their place
		for _, s := range p.sessions {
			s.retired.Store(true)
		}
	}
	more := best == nil || load >= busy && count < p.most && !p.enough
	if more && p.dialing == nil {
		p.dialing = p.dial()
	}
	return best, p.dialing, nil
}

// warm begins the first session, if there is none.
func (p *pool) warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.dialing == nil && len(p.sessions) == 0 {
		p.dialing = p.dial()
	}
}

// dial begins a session, for a caller that holds the lock. It is nobody's in
// particular: who began it may leave while others wait.
func (p *pool) dial() *dialing {
	ctx, cancel := context.WithCancel(context.Background())
	d := &dialing{done: make(chan struct{}), cancel: cancel}
	p.work.Go(func() {
		defer cancel()
		d.puller, d.err = p.open(ctx)
		p.mu.Lock()
		p.dialing = nil
		p.enough = d.err != nil && len(p.sessions) > 0
		if d.err == nil {
			p.sessions = append(p.sessions, d.puller)
		}
		p.mu.Unlock()
		close(d.done)
	})
	return d
}

// close ends all sessions and waits for their processes.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.dialing != nil {
		p.dialing.cancel()
	}
	p.mu.Unlock()
	p.work.Wait()
	for _, s := range p.sessions { // nobody adds to them any more
		s.fail(errClosed)
		<-s.done
	}
}
