package tree

import (
	"context"
	"sync"
)

// flights join those who want the same thing of the same entry at the same
// time. What comes of it is kept by those who wanted it: a failed flight leaves
// nothing behind, the next caller begins a new one. As soon as one of them waits
// for it (see hurry), all that is read for it is what somebody waits for.
type flights[T any] struct {
	mu   sync.Mutex // guards what follows, and the waiters of each
	open map[ID]*flight[T]
}

type flight[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	hurry   *hurry // nil: somebody waits from the start
	waiters int
	got     T
	err     error
}

// do calls get, or waits for the call that is under way. The call ends early
// when nobody waits for it any more, and not because one of several left.
func (g *flights[T]) do(ctx context.Context, id ID, get func(context.Context) (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	f := g.join(ctx, id, get)
	for {
		up := hurryOf(ctx).raising()
		if up == nil && f.hurry != nil {
			f.hurry.raise()
		}
		select {
		case <-f.done:
			return f.got, f.err
		case <-up:
		case <-ctx.Done():
			g.leave(id, f)
			return none, context.Cause(ctx)
		}
	}
}

func (g *flights[T]) join(ctx context.Context, id ID, get func(context.Context) (T, error)) *flight[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.open[id]; f != nil {
		f.waiters++
		return f
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[T]{done: make(chan struct{}), cancel: cancel, waiters: 1}
	switch h := hurryOf(ctx); {
	case !h.raised():
		f.hurry = newHurry()
		fallthrough
	case h != nil: // the caller's is not the flight's
		life = context.WithValue(life, hurryKey{}, f.hurry)
	}
	if g.open == nil {
		g.open = make(map[ID]*flight[T])
	}
	g.open[id] = f
	go func() {
		defer cancel()
		f.got, f.err = get(life)
		g.forget(id, f)
		close(f.done)
	}()
	return f
}

func (g *flights[T]) forget(id ID, f *flight[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[id] == f {
		delete(g.open, id)
	}
}

// leave is what a waiter does who does not wait any longer. The last one ends
// the flight and sees that nothing of it runs on.
func (g *flights[T]) leave(id ID, f *flight[T]) {
	g.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && g.open[id] == f {
		delete(g.open, id) // who comes now is not to join what is about to end
	}
	g.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}
