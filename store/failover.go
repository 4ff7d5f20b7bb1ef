package store

import (
	"context"
	"errors"
	"sync/atomic"

	"caravel/chunker"
)

// Failover takes stores for copies of one another: it asks one until that does
// not work, and then another. A chunk that is missing or corrupt in one is
// taken from another without leaving the first. It verifies what it gets. If no
// store gives the chunk, the error says what each said; it matches ErrMissing
// only if it was missing in all of them.
func Failover(stores ...Store) Store {
	f := &failover{stores: make([]Store, len(stores))}
	for i, s := range stores {
		f.stores[i] = Verify(s)
	}
	return f
}

type failover struct {
	stores []Store
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
				f.active.CompareAndSwap(first, (at+1)%int64(len(f.stores)))
			}
			return context.Cause(ctx)
		}
		if answered(err) && !settled {
			settled = true
			f.active.CompareAndSwap(first, at)
		}
		if err == nil {
			return nil
		}
		tried = append(tried, err)
	}
	return noneHas(id, tried)
}
