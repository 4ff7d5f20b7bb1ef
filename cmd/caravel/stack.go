package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"caravel/catalog"
	"caravel/store"
	"caravel/store/open"
)

// openStores puts together what an image's chunks come from: in front the cache
// that the user named, then the stores in their order, and in front of each that
// is behind a network the cache on disk.
func (o *opener) openStores(img *openedImage) error {
	locations := o.opt.allStores()
	if len(o.opt.stores) == 0 {
		locations = append([]string{open.DefaultStore(img.location)}, locations...)
	}
	var here keepers
	var failed error
	where := o.where
	where.Wrap = func(s store.Store, from open.Origin) store.Store {
		img.key = cmp.Or(img.key, from.Key)
		q := o.queue(s, from)
		if !from.Remote {
			here = append(here, q)
			return q
		}
		img.remote = true
		cached, err := o.behindDisk(img, q, from)
		if err != nil {
			failed = err
		}
		return cached
	}
	var all []store.Store
	for _, l := range locations {
		s, err := open.Store(l, where)
		if err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	img.store = all[0]
	if o.opt.severalStores() {
		img.store = store.Retry(store.Router(o.log, all...), o.where.Timeout)
	}
	if img.kept != nil && len(here) > 0 {
		img.kept = append(here, img.kept)
	}
	if err := o.behindNamed(img); err != nil {
		return err
	}
	img.store = witness{img.store, img.Doubt}
	return nil
}

// A witness is told when there is no chunk that an index names, or another one.
type witness struct {
	store.Store
	doubt func()
}

func (w witness) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	c, err := w.Store.Get(ctx, want)
	if err != nil && store.Final(err) && !errors.Is(err, catalog.ErrOffline) {
		w.doubt()
	}
	return c, err
}

// behindDisk puts the cache on disk in front of a store behind a network. What
// the user wants in a store of his own is not kept twice.
func (o *opener) behindDisk(img *openedImage, s store.Store, from open.Origin) (store.Store, error) {
	if o.opt.disk.offline {
		s = offline{from.Where}
	}
	if o.opt.cache != "" && o.opt.disk.dir == "" {
		return s, nil
	}
	disk, err := o.openDisk()
	if err != nil || disk == nil {
		return s, err
	}
	near := disk.Under(from.Key)
	img.kept, img.room = alsoIn(img.kept, near), disk.Room
	return store.Cache(gated(near, &img.caches.disk, func() bool { return img.once || img.shut.Load() || img.materialised() }), s, o.log), nil
}

// renewNamed is how old a chunk in the store of --cache may be before a read
// makes it new again. That store does not evict, but who tidies it up may go by the
// time; an hour is little for them, and a chunk that is read all day long costs a
// write an hour.
const renewNamed = time.Hour

// alsoIn is kept and one more.
func alsoIn(kept, more store.Store) store.Store {
	if kept == nil || kept == more {
		return more
	}
	return keepers{kept, more}
}

// behindNamed puts the store of --cache in front. What is encrypted in one of the
// others is never kept in another way: all that goes into this one is encrypted
// then.
func (o *opener) behindNamed(img *openedImage) error {
	if o.opt.cache == "" {
		return nil
	}
	near, err := open.Writer(o.opt.cache, open.Options{Renew: renewNamed, Form: store.Form{Key: img.key}})
	if err != nil {
		return err
	}
	img.store = store.Cache(gated(near, &img.caches.named, img.shut.Load), img.store, o.log)
	img.kept, img.room = near, nil // it never evicts, so there is no limit
	return nil
}

// cacheHits counts the chunks that an image's caches had.
type cacheHits struct{ named, disk hits }

// hits are counted by class.
type hits [store.Classes]atomic.Int64

// gated is a cache into which nothing comes while it is shut. It counts what comes
// out.
func gated(w store.Writer, count *hits, shut func() bool) store.Writer {
	g := gate{w, count, shut}
	if k, ok := w.(store.Keeper); ok {
		return keeperGate{g, k}
	}
	return g
}

type gate struct {
	store.Writer
	count *hits
	shut  func() bool
}

func (g gate) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	c, err := g.Writer.Get(ctx, want)
	if err == nil {
		g.count[want.Class].Add(1)
	}
	return c, err
}

func (g gate) Put(ctx context.Context, c *store.Chunk) error {
	if g.shut() {
		return nil
	}
	return g.Writer.Put(ctx, c)
}

type keeperGate struct {
	gate
	keeper store.Keeper
}

func (g keeperGate) Keep(c *store.Chunk) error {
	if g.shut() {
		return nil
	}
	return g.keeper.Keep(c)
}

// keepers are all the stores in which a chunk outlives this process.
type keepers []store.Store

func (k keepers) Has(ctx context.Context, want store.Want) (found bool, err error) {
	for _, s := range k {
		if found, err = s.Has(ctx, want); found {
			return true, nil
		}
	}
	return false, err
}

func (k keepers) Get(ctx context.Context, want store.Want) (c *store.Chunk, err error) {
	err = &store.MissingError{ID: want.ID, Where: "any place"}
	for _, s := range k {
		if c, err = s.Get(ctx, want); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// offline is a store behind a network that is not asked.
type offline struct{ where string }

func (o offline) Get(_ context.Context, want store.Want) (*store.Chunk, error) {
	return nil, fmt.Errorf("chunk %s of %s: %w (--offline)", want.ID, o.where, catalog.ErrOffline)
}

func (o offline) Has(context.Context, store.Want) (bool, error) { return false, nil }
