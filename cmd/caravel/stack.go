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

// A stack is what an image's chunks come from.
type stack struct {
	store  store.Store
	remote bool         // a store of it is behind a network
	kept   store.Store  // where what is fetched outlives this process; nil: nowhere
	room   func() int64 // see openedImage
}

// openStores opens what an image's chunks come from. With --store-file that can be
// exchanged later; what depends on where chunks are kept stays as it is now.
func (o *opener) openStores(img *openedImage) error {
	o.stacks.Lock()
	defer o.stacks.Unlock()
	st, err := o.stack(img)
	if err != nil {
		return err
	}
	img.remote, img.kept, img.room = st.remote, st.kept, st.room
	if o.opt.storeFile != "" {
		img.swap = store.NewSwap(st.store)
		st.store, img.remote = img.swap, true // for all that is known
		if st.kept != nil {
			img.keptSwap = store.NewSwap(st.kept)
			img.kept = img.keptSwap
		}
		o.swaps = append(o.swaps, img)
	}
	img.store = witness{st.store, img.Doubt}
	return nil
}

// stack puts together what an image's chunks come from: in front the cache that the
// user named, then the stores in their order, and in front of each that is behind a
// network the cache on disk.
func (o *opener) stack(img *openedImage) (*stack, error) {
	locations := o.locations(img.location)
	st := &stack{}
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
		st.remote = true
		cached, err := o.behindDisk(img, st, q, from)
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
			return nil, err
		}
		all = append(all, s)
	}
	st.store = all[0]
	if o.opt.severalStores() {
		st.store = store.Retry(store.Router(o.log, all...), o.where.Timeout)
	}
	if st.kept != nil && len(here) > 0 {
		st.kept = append(here, st.kept)
	}
	return st, o.behindNamed(img, st)
}

// locations are the stores that an image's chunks are looked for in, in this order.
func (o *opener) locations(image string) []string {
	all := o.opt.allStores()
	if len(o.opt.stores) == 0 {
		all = append([]string{open.DefaultStore(image)}, all...)
	}
	return all
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
func (o *opener) behindDisk(img *openedImage, st *stack, s store.Store, from open.Origin) (store.Store, error) {
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
	st.kept, st.room = alsoIn(st.kept, near), disk.Room
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
func (o *opener) behindNamed(img *openedImage, st *stack) error {
	if o.opt.cache == "" {
		return nil
	}
	where := o.where
	where.Renew = renewNamed
	where.Form.Key = cmp.Or(img.key, where.Form.Key)
	near, err := open.Writer(o.opt.cache, where)
	if err != nil {
		return err
	}
	st.store = store.Cache(gated(near, &img.caches.named, img.shut.Load), st.store, o.log)
	st.kept, st.room = near, nil // it never evicts, so there is no limit
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
