package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"caravel/blockcache"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
)

// A cachedImage is an image that is read lazily, and what works for it in the
// background.
type cachedImage struct {
	*blockcache.Image
	src      *openedImage
	from     *lazyOpener
	recorder *prefetch.Recorder // nil: nothing is recorded
	files    *treeFiles         // the materialised ones of a tree; nil: none are
	part     blockcache.Range   // what is swept; empty: all

	sweeping atomic.Pointer[prefetch.Swept] // nil: nothing is swept, or not yet

	used func() // tells the cache on disk how much the materialised file takes

	life context.Context // of the background
	end  context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	index    *index.Index         // nil: not here yet; guarded by mu
	complete bool                 // whether that was complete when it was closed; guarded by mu
	replayed prefetch.ReplayStats // guarded by mu
	swept    prefetch.SweepStats  // guarded by mu
}

// cache begins to read an image lazily.
func (o *lazyOpener) cache(src *openedImage) *cachedImage {
	o.heap.add(src.Table.Len(), rowBytes)
	c := &cachedImage{src: src, from: o, index: src.Index, used: func() {}}
	c.life, c.end = context.WithCancel(context.Background())
	opt := blockcache.Options{Memory: o.memory, Kept: src.kept, Wait: o.lazy.wait, Log: o.log}
	opt.Touched = func(row int) { c.sweeping.Load().Touch(row) }
	if o.lazy.record != "" || o.lazy.corSave != "" {
		c.recorder = prefetch.NewRecorder(src.Table.Len())
		opt.Touched = func(row int) {
			c.recorder.Touch(row)
			c.sweeping.Load().Touch(row)
		}
	}
	c.Image = blockcache.New(src.Table, src.store, opt)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cached = append(o.cached, c)
	return c
}

// Backing is a file for others to read by themselves; see blockcache.Image. What is
// read past us could not be recorded.
func (c *cachedImage) Backing(off, size int64) *os.File {
	if c.recorder != nil {
		return nil
	}
	return c.Image.Backing(off, size)
}

// readAhead suits the readers of an image.
func (o *lazyOpener) readAhead(src *openedImage) prefetch.Options {
	return prefetch.Options{
		Memory:  o.opt.memory,
		Chunk:   int64(src.Table.Chunking().Avg),
		Metered: o.lazy.metered,
		Group:   &src.ahead,
	}
}

// newReader is a reader of a stream of the image.
func (c *cachedImage) newReader() *prefetch.Reader {
	return prefetch.NewReader(c.View(store.Demand), c.View(store.ReadAhead), c.from.readAhead(c.src))
}

// whole is the image's index; nil if it is not here yet.
func (c *cachedImage) whole() *index.Index {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index
}

// Close ends what is under way.
func (c *cachedImage) Close() error {
	c.end()
	c.work.Wait()
	err := errors.Join(c.Image.Close(), c.files.close())
	if file := c.src.file.Load(); file != nil {
		c.mu.Lock()
		c.complete = file.Complete()
		c.mu.Unlock()
		err = errors.Join(err, file.Close())
		c.used()
	}
	return err
}
