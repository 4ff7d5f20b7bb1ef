package store

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"caravel/chunker"
)

// Failover takes stores for copies of one another: it asks one until that does
// not work, and then another. A chunk that is missing or corrupt in one is
// taken from another without leaving the first. It verifies what it gets. If no
// store gives the chunk, the error says what each said; it matches ErrMissing
// only if it was missing in all of them. log, which may be nil, gets a line when
// another store becomes the first to ask.
func Failover(log *slog.Logger, stores ...Store) Store {
	f := &failover{stores: make([]Store, len(stores)), log: orDiscard(log)}
	for i, s := range stores {
		f.stores[i] = Verify(s)
	}
	return f
}

type failover struct {
	stores []Store
	log    *slog.Logger
	active atomic.Int64 // the number of the one to ask first
}

func (f *failover) Get(ctx context.Context, want Want) (c *Chunk, err error) {
	err = f.ask(ctx, want.ID, func(s Store) error {
		c, err = s.Get(ctx, want)
		return err
	})
	return c, err
}

func (f *failover) Has(ctx context.Context, want Want) (bool, error) {
	return found(f.ask(ctx, want.ID, func(s Store) error { return has(ctx, s, want) }))
}

// ask calls call with one store after the other until it returns nil. It stays
// with the first one that works.
func (f *failover) ask(ctx context.Context, id chunker.ID, call func(Store) error) error {
	var tried []error
	first, settled := f.active.Load(), false
	for i := range f.stores {
		at := (first + int64(i)) % int64(len(f.stores))
		err := call(f.stores[at])
		if err != nil && ctx.Err() != nil {
			if !settled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				f.leave(first, (at+1)%int64(len(f.stores)), err)
			}
			return context.Cause(ctx)
		}
		if answered(err) && !settled {
			settled = true
			f.leave(first, at, cmp.Or(tried...))
		}
		if err == nil {
			return nil
		}
		tried = append(tried, err)
	}
	return noneHas(id, tried)
}

// leave makes another store the first to ask, because of err.
func (f *failover) leave(first, next int64, err error) {
	if next != first && f.active.CompareAndSwap(first, next) {
		f.log.Warn("store does not work, another takes its place", "err", err)
	}
}
