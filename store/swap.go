package store

import (
	"context"
	"errors"
	"sync/atomic"
)

// A Swap is a store in whose place another one can be put while it is read. Who reads
// then finds the chunk in the other one and sees no error. Its methods may be called
// from many goroutines.
type Swap struct{ now atomic.Pointer[term] }

// A term is the time of one store.
type term struct {
	store Store
	over  context.Context // ends with it
	end   context.CancelCauseFunc
}

var errSwapped = errors.New("store: another one has taken its place")

// NewSwap makes a Swap with s in it.
func NewSwap(s Store) *Swap {
	w := &Swap{}
	w.Put(s)
	return w
}

// Put puts s in the place of the store that is there. What is under way there is not
// waited for: it may hang, which can be why there is another one.
func (w *Swap) Put(s Store) {
	next := &term{store: s}
	next.over, next.end = context.WithCancelCause(context.Background())
	if former := w.now.Swap(next); former != nil {
		former.end(errSwapped)
	}
}

// Get implements Store.
func (w *Swap) Get(ctx context.Context, want Want) (c *Chunk, err error) {
	err = w.ask(ctx, func(ctx context.Context, s Store) error {
		c, err = s.Get(ctx, want)
		return err
	})
	return c, err
}

// Has implements Store.
func (w *Swap) Has(ctx context.Context, want Want) (ok bool, err error) {
	err = w.ask(ctx, func(ctx context.Context, s Store) error {
		ok, err = s.Has(ctx, want)
		return err
	})
	return ok, err
}

// ask calls f with the store that is there, and again if that had an error and is not
// there any more.
func (w *Swap) ask(ctx context.Context, f func(context.Context, Store) error) error {
	for {
		t := w.now.Load()
		within, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(t.over, func() { cancel(context.Cause(t.over)) })
		err := f(within, t.store)
		stop()
		cancel(nil)
		if err == nil || ctx.Err() != nil || w.now.Load() == t {
			return err
		}
	}
}
