package store

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
)

// A Keeper is a Writer that can take a chunk without making its caller wait.
type Keeper interface {
	Writer

	// Keep is Put, unless that would have to wait; then the chunk is not kept,
	// which is no error.
	Keep(c *Chunk) error
}

// Cache looks into local first, and puts into it what it had to get from s. It
// verifies both; a corrupt chunk in local is replaced. That local cannot be
// read or written (a full disk) is logged once and never keeps a chunk of s
// from the reader. If local is a [Keeper], only those wait for it who fetch for
// its sake: sweeps and profiles. log may be nil.
func Cache(local Writer, s Store, log *slog.Logger) Store {
	keeper, _ := local.(Keeper)
	return &cache{local: local, keeper: keeper, near: Verify(local), far: Verify(s), log: orDiscard(log)}
}

type cache struct {
	local     Writer
	keeper    Keeper // nil: local is none
	near, far Store
	log       *slog.Logger
	warned    atomic.Bool
}

func (k *cache) Get(ctx context.Context, want Want) (*Chunk, error) {
	c, err := k.near.Get(ctx, want)
	if err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	k.note(err)
	if c, err = k.far.Get(ctx, want); err != nil {
		return nil, err
	}
	if err := k.put(ctx, want.Class, c); err != nil && ctx.Err() == nil {
		k.note(err)
	}
	return c, nil
}

func (k *cache) put(ctx context.Context, class Class, c *Chunk) error {
	if k.keeper != nil && class != Profile && class != Sweep {
		return k.keeper.Keep(c)
	}
	return k.local.Put(ctx, c)
}

func (k *cache) Has(ctx context.Context, want Want) (bool, error) {
	if ok, _ := k.near.Has(ctx, want); ok {
		return true, nil
	}
	return k.far.Has(ctx, want)
}

// note logs what went wrong with local, the first time aloud.
func (k *cache) note(err error) {
	switch {
	case errors.Is(err, ErrMissing):
	case errors.Is(err, ErrCorrupt):
		k.log.Debug("chunk replaced in cache", "err", err)
	case k.warned.CompareAndSwap(false, true):
		k.log.Warn("cache does not work, going on without", "err", err)
	}
}
