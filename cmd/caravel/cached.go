package main

import (
	"context"

	"caravel/blockcache"
	"caravel/prefetch"
)

// A cachedImage is an image of which memory has what was read.
type cachedImage struct {
	*blockcache.Image
	stop context.CancelFunc // of the sweep
	done chan struct{}      // closed when that has ended
}

// cached begins to read an image lazily, and to sweep it into the cache, if
// there is one.
func (o *lazyOpener) cached(src *openedImage) *cachedImage {
	c := &cachedImage{
		Image: blockcache.New(src.index, src.store, blockcache.Options{Memory: o.memory, Log: o.log}),
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

// readAhead suits an image.
func (o *lazyOpener) readAhead(src *openedImage) prefetch.Options {
	return prefetch.Options{Memory: o.opt.memory, Chunk: int64(src.index.Params.Avg)}
}

// Close ends what is under way.
func (c *cachedImage) Close() error {
	c.stop()
	<-c.done
	return c.Image.Close()
}
