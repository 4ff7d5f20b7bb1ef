package diskcache

import (
	"context"

	"caravel/store"
)

// Under is the cache for what comes from a store whose chunks are encrypted with
// key; it is the cache itself if that is nil. Chunks lie there as they came, apart
// from the same ones of other keys or none, and nothing is kept that came in
// another form: no chunk of that store is ever on the disk decrypted.
func (c *Cache) Under(key *store.Key) store.Keeper {
	if key == nil {
		return c
	}
	return under{c, key}
}

type under struct {
	cache *Cache
	key   *store.Key
}

var _ store.Keeper = under{}

func (u under) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	return u.cache.get(ctx, want, u.key)
}

func (u under) Has(ctx context.Context, want store.Want) (bool, error) {
	return u.cache.has(ctx, want, u.key)
}

func (u under) Put(ctx context.Context, chunk *store.Chunk) error {
	return u.cache.put(ctx, chunk, u.key)
}

func (u under) Keep(chunk *store.Chunk) error { return u.cache.keep(chunk, u.key) }

func (u under) Sync(ctx context.Context) error { return u.cache.Sync(ctx) }
