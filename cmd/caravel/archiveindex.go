package main

import (
	"context"
	"io"

	"caravel/blockcache"
	"caravel/catar/tree"
	"caravel/image"
	"caravel/prefetch"
	"caravel/store"
)

// An indexedArchive is behind a .caidx.
type indexedArchive struct {
	from  *lazyOpener
	src   *openedImage
	cache *cachedImage // nil before somebody reads here and there
}

func (a *indexedArchive) inOrder() bool { return false }
func (a *indexedArchive) skips() bool   { return false }

func (a *indexedArchive) stream(ctx context.Context) (io.ReadCloser, error) {
	return image.NewReader(ctx, a.src.index, a.src.store, 0, a.src.index.Size(), a.options())
}

func (a *indexedArchive) options() image.StreamOptions {
	return image.StreamOptions{InFlight: a.from.opt.workers}
}

func (a *indexedArchive) random(ctx context.Context) (*randomArchive, error) {
	if a.cache == nil {
		a.cache = a.from.cached(a.src)
	}
	hints := a.cache.hints(store.Walk)
	t, err := tree.Open(ctx, a.cache.View(store.Demand), a.cache.Size(), tree.Options{Want: hints.Want, Log: a.from.log})
	if err != nil {
		return nil, err
	}
	return &randomArchive{Tree: t, lazyBytes: a}, nil
}

// longSection is a part of which it does not matter that its first and last
// chunk may have been fetched already.
const longSection = 16 << 20

func (a *indexedArchive) section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if n >= longSection {
		return image.NewReader(ctx, a.src.index, a.src.store, off, n, a.options())
	}
	return &orderly{ctx: ctx, src: a.cache.hints(store.ReadAhead), off: off, end: off + n, told: off}, nil
}

func (a *indexedArchive) file(off, size int64) reader {
	img := ending{a.cache.View(store.Demand), off + size}
	r := prefetch.NewReader(img, a.cache.View(store.ReadAhead), a.cache.readAhead())
	return part{r, off, size}
}

// An ending image is one of which nobody shall read behind an offset: what lies
// there belongs to another file.
type ending struct {
	*blockcache.View
	end int64
}

func (e ending) Size() int64 { return e.end }

func (a *indexedArchive) Close() error {
	if a.cache == nil {
		return nil
	}
	return a.cache.Close()
}

// A cachedImage is an image of which memory has what was read.
type cachedImage struct {
	*blockcache.Image
	src  *openedImage
	from *lazyOpener
	stop context.CancelFunc // of the sweep
	done chan struct{}      // closed when that has ended
}

// cached begins to read an image lazily, and to sweep it into the cache, if
// there is one.
func (o *lazyOpener) cached(src *openedImage) *cachedImage {
	c := &cachedImage{
		Image: blockcache.New(src.index, src.store, blockcache.Options{Memory: o.memory, Log: o.log}),
		src:   src,
		from:  o,
		done:  make(chan struct{}),
	}
	var sweeping context.Context
	sweeping, c.stop = context.WithCancel(context.Background())
	go func() {
		defer close(c.done)
		if src.kept != nil && !o.noSweep {
			_, _ = prefetch.Sweep(sweeping, src.index, src.store, src.kept, prefetch.SweepOptions{Log: o.log}) // ends with us
		}
	}()
	return c
}

func (c *cachedImage) readAhead() prefetch.Options {
	return prefetch.Options{Memory: c.from.opt.memory, Chunk: int64(c.src.index.Params.Avg)}
}

// hints is the image for reading on demand, with hints in a class.
func (c *cachedImage) hints(class store.Class) hinted {
	return hintedView{c.View(store.Demand), c.View(class)}
}

type hintedView struct {
	reader
	ahead *blockcache.View
}

func (v hintedView) Want(off, n int64) { v.ahead.Want(blockcache.Range{Off: off, Len: n}) }

// Close ends what is under way.
func (c *cachedImage) Close() error {
	c.stop()
	<-c.done
	return c.Image.Close()
}
