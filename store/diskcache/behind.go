package diskcache

import (
	"context"

	"caravel/store"
)

// maxWaiting is how many bytes may wait for the disk. It is what some hundred
// chunks take: a disk that is slower than the link for longer than that is
// slower for good.
const maxWaiting = 8 << 20

// waiting is the file of a chunk that waits to be written.
type waiting struct {
	content []byte
	free    func()
	size    int64 // what it took of maxWaiting
}

// Put keeps the chunk, soon: it waits for its turn, not for the disk. Sync waits
// for that. Where the directory cannot be written (a full disk), Put does nothing
// and the log says so once. A chunk that came encrypted is not kept: that is for
// Under.
func (c *Cache) Put(ctx context.Context, chunk *store.Chunk) error { return c.put(ctx, chunk, nil) }

func (c *Cache) put(ctx context.Context, chunk *store.Chunk, key *store.Key) error {
	if !key.Same(chunk.Key()) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := chunk.Verify(); err != nil {
		return err
	}
	size := takes(chunk)
	if c.outage.down() {
		c.lost.Add(1)
		return nil
	}
	if err := c.waits.Acquire(ctx, size); err != nil {
		return context.Cause(ctx)
	}
	return c.enqueue(chunk, size, key)
}

// Keep is Put for those who do not wait: if too much waits for the disk already,
// the chunk is not kept.
func (c *Cache) Keep(chunk *store.Chunk) error { return c.keep(chunk, nil) }

func (c *Cache) keep(chunk *store.Chunk, key *store.Key) error {
	if !key.Same(chunk.Key()) {
		return nil
	}
	if err := chunk.Verify(); err != nil {
		return err
	}
	size := takes(chunk)
	if c.outage.down() || !c.waits.TryAcquire(size) {
		c.lost.Add(1)
		return nil
	}
	if err := c.enqueue(chunk, size, key); err != errClosed { // whoever still reads need not know
		return err
	}
	return nil
}

// takes is what of maxWaiting a chunk takes: as many bytes as it came as, or as it
// has plain, if the others are gone.
func takes(chunk *store.Chunk) (size int64) {
	_ = chunk.AsCame(func(b []byte, _ bool) error {
		size = min(headSize+int64(len(b)), maxWaiting)
		return nil
	})
	return size
}

// enqueue copies the chunk's bytes and has them written. A copy costs a
// twentieth of the writing; it leaves the chunk, and whatever else it holds, to
// its owner.
func (c *Cache) enqueue(chunk *store.Chunk, size int64, key *store.Key) error {
	w := waiting{size: size}
	at := slot{chunk.ID(), key}
	err := chunk.AsCame(func(b []byte, packed bool) error {
		form := byte(plainForm)
		if packed {
			form = packedForm
		}
		if at.key != nil {
			form |= sealedForm
		}
		w.content, w.free = store.Buffer(headSize + len(b))
		copy(w.content, head(form))
		copy(w.content[headSize:], b)
		return nil
	})
	if err != nil {
		c.waits.Release(size)
		return err
	}
	c.mu.Lock()
	_, twice := c.pending[at]
	closed := c.closed
	if !twice && !closed {
		c.pending[at] = w
		c.queue = append(c.queue, at)
		if !c.writing {
			c.writing = true
			c.work.Go(c.writeQueue)
		}
	}
	c.mu.Unlock()
	if twice || closed {
		w.free()
		c.waits.Release(size)
	}
	if closed {
		return errClosed
	}
	return nil
}

// waiting is the chunk of a slot if it waits for the disk, else nil.
func (c *Cache) waiting(want store.Want, at slot) *store.Chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.pending[at]
	if !ok {
		return nil
	}
	b, free := store.Buffer(len(w.content))
	copy(b, w.content)
	chunk, err := opened(want, at.key, c.locate(at.name()), b, free)
	if err != nil {
		free()
		return nil
	}
	return chunk
}

// writeQueue writes what waits, one after the other, until nothing does.
func (c *Cache) writeQueue() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.queue = nil
			c.writing = false
			c.mu.Unlock()
			return
		}
		at := c.queue[0]
		c.queue = c.queue[1:]
		w := c.pending[at]
		c.mu.Unlock()

		c.writeChunk(at, w.content)

		c.mu.Lock()
		delete(c.pending, at)
		c.mu.Unlock()
		w.free()
		c.waits.Release(w.size)
	}
}

func (c *Cache) writeChunk(at slot, content []byte) {
	if c.outage.down() {
		c.lost.Add(1)
		return
	}
	full := false
	err := c.change(func(p *place) error {
		if full = !c.chargeSoon(p, onDisk(len(content))); full {
			return nil
		}
		grown, err := p.write(at.name(), content)
		c.ledger.refund(onDisk(len(content)) - grown)
		return err
	})
	switch {
	case full:
		c.lost.Add(1) // eviction does not keep up; the disk works
		return
	case blocked(err):
		c.lost.Add(1)
		c.log.Debug("not kept", "chunk", at.id, "err", failed(c.locate(at.name()), err))
		return
	case err != nil:
		c.lost.Add(1)
		err = failed(c.locate(at.name()), err)
	default:
		c.kept.Add(1)
	}
	c.wrote(err)
}

// Sync returns when all that Put and Keep have taken is written, and promises no
// more: what a power cut spoils is found out when it is read.
func (c *Cache) Sync(ctx context.Context) error {
	if err := c.waits.Acquire(ctx, maxWaiting); err != nil {
		return context.Cause(ctx)
	}
	c.waits.Release(maxWaiting)
	return nil
}
