package limit

import (
	"context"

	"caravel/store"
)

// Store is s within limits, for a store that is no backend's. What comes of a chunk is
// counted when all of it is here. It is a store.Writer if s is.
func Store(s store.Store, l Limits) store.Store {
	if l.none() {
		return s
	}
	limited := chunks{s, l}
	if w, ok := s.(store.Writer); ok {
		return writer{limited, w}
	}
	return limited
}

type chunks struct {
	store.Store
	limits Limits
}

func (c chunks) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	leave, err := c.limits.Requests.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	chunk, err := c.Store.Get(ctx, want)
	if err != nil {
		return nil, err
	}
	if err := take(ctx, c.limits.Down, chunk.Came()); err != nil {
		chunk.Release()
		return nil, err
	}
	return chunk, nil
}

func (c chunks) Has(ctx context.Context, want store.Want) (bool, error) {
	leave, err := c.limits.Requests.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	return c.Store.Has(ctx, want)
}

type writer struct {
	chunks
	to store.Writer
}

// Put counts what the chunk came as, which is about what is sent.
func (w writer) Put(ctx context.Context, c *store.Chunk) error {
	leave, err := w.limits.Requests.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := take(ctx, w.limits.Up, c.Came()); err != nil {
		return err
	}
	return w.to.Put(ctx, c)
}

func (w writer) Sync(ctx context.Context) error { return w.to.Sync(ctx) }
