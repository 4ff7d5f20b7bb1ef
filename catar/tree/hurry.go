package tree

import (
	"context"
	"sync"
)

// A hurry is raised when somebody waits for what was begun for nobody in
// particular. Reads under a context with one that was not raised go through
// Options.Ahead; without one somebody waits from the start.
type hurry struct {
	once sync.Once
	up   chan struct{} // closed when it is raised
}

type hurryKey struct{}

// patient is ctx for what nobody waits for, if there is a source for that.
func (t *Tree) patient(ctx context.Context) context.Context {
	if t.opt.Ahead == nil {
		return ctx
	}
	return context.WithValue(ctx, hurryKey{}, newHurry())
}

func newHurry() *hurry { return &hurry{up: make(chan struct{})} }

// hurryOf is that of a context; nil: somebody waits.
func hurryOf(ctx context.Context) *hurry {
	h, _ := ctx.Value(hurryKey{}).(*hurry)
	return h
}

func (h *hurry) raise() { h.once.Do(func() { close(h.up) }) }

func (h *hurry) raised() bool {
	if h == nil {
		return true
	}
	select {
	case <-h.up:
		return true
	default:
		return false
	}
}

// raising is closed when somebody waits; nil if somebody does already, which
// blocks for ever.
func (h *hurry) raising() <-chan struct{} {
	if h.raised() {
		return nil
	}
	return h.up
}

// readAhead reads through Options.Ahead. If somebody comes to wait for it, the
// same bytes are read once more as those that somebody waits for: that takes the
// request along that is under way.
func (t *Tree) readAhead(ctx context.Context, h *hurry, p []byte, off int64) (int, error) {
	type result struct {
		n   int
		err error
	}
	ahead, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan result, 1)
	go func() {
		n, err := t.opt.Ahead.ReadAt(ahead, p, off)
		got <- result{n, err}
	}()
	select {
	case r := <-got:
		return r.n, r.err
	case <-h.up:
	}
	q := make([]byte, len(p))
	n, err := t.src.ReadAt(ctx, q, off)
	cancel()
	<-got // p is the other's until then
	return copy(p, q[:n]), err
}

// slots bound the reads at one time. Those of a walk are shared by all that it
// fetches ahead; what somebody comes to wait for gets slots of its own.
type slots struct {
	ch     chan struct{}
	shared bool
}

func (t *Tree) slots() *slots { return &slots{ch: make(chan struct{}, t.opt.InFlight)} }

// take waits for a slot. What it returns is to be emptied. One goroutine takes.
func (s *slots) take(ctx context.Context) (held chan struct{}, err error) {
	for {
		var up <-chan struct{}
		if h := hurryOf(ctx); s.shared && h != nil {
			up = h.up
		}
		select {
		case s.ch <- struct{}{}:
			return s.ch, nil
		case <-up:
			s.ch, s.shared = make(chan struct{}, cap(s.ch)), false
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tokens are for what takes much memory at once: a hostile archive shall not
// have all readers at once take all they may. What somebody waits for does not
// wait for what nobody does.
type tokens struct{ demand, ahead chan struct{} }

func newTokens() tokens { return tokens{make(chan struct{}, 1), make(chan struct{}, 1)} }

// take waits until nobody else of the kind has one. What it returns is to be
// emptied.
func (t tokens) take(ctx context.Context) (held chan struct{}, err error) {
	h := hurryOf(ctx)
	if !h.raised() {
		select {
		case t.ahead <- struct{}{}:
			return t.ahead, nil
		case <-h.up:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case t.demand <- struct{}{}:
		return t.demand, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
