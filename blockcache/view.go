package blockcache

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"caravel/index"
	"caravel/store"
)

// partsAtOnce is how many missing chunks one read asks for at once: 16 MiB of
// chunks of the default size. It bounds what tiny chunks cost.
const partsAtOnce = 256

// A View reads an image on behalf of one class. Its methods may be called from
// many goroutines.
type View struct {
	img   *Image
	class store.Class
}

// Size is the length of the image in bytes.
func (v *View) Size() int64 { return v.img.Size() }

// ReadAt reads len(p) bytes at off, by the rules of io.ReaderAt. The missing
// chunks are asked for together. An error concerns this range only: n bytes
// before the bad chunk are good, and the next read tries again.
func (v *View) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	img := v.img
	switch {
	case off < 0:
		return 0, fmt.Errorf("blockcache: offset %d: negative", off)
	case img.closed.Load():
		return 0, errClosed
	case len(p) == 0:
		return 0, nil
	case off >= img.Size():
		return 0, io.EOF
	}
	if rest := img.Size() - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	n, bad := v.read(ctx, p, off)
	img.counts[v.class].bytes.Add(int64(n))
	if bad != nil {
		return n, bad
	}
	return n, err
}

// A part is what one chunk gives to a read.
type part struct {
	row   int
	chunk index.Chunk
	skip  int    // bytes of the chunk before the part
	p     []byte // where it goes
	err   error  // why it could not be filled
}

// read fills p, which lies inside the image, or returns how much of it is
// good.
func (v *View) read(ctx context.Context, p []byte, off int64) (n int, err error) {
	img := v.img
	if !img.table.Ready(off, int64(len(p))) {
		if err := img.await(ctx, v.class, off, int64(len(p))); err != nil {
			return 0, fmt.Errorf("offset %d: %w", off, err)
		}
	}
	var missing []part
	start := off
	row, err := img.table.Seek(ctx, off)
	for ; len(p) > 0; row++ {
		pt := part{row: row, chunk: index.Chunk{Start: off}, err: err}
		if err == nil {
			pt.chunk, pt.err = img.row(ctx, row, off)
		}
		size := 0
		if pt.err == nil {
			pt.skip = int(off - pt.chunk.Start)
			size = min(len(p), pt.chunk.Size-pt.skip)
			pt.p = p[:size]
			if !v.near(&pt) {
				missing = append(missing, pt)
			}
		}
		if pt.err != nil || len(missing) == partsAtOnce {
			if n, err := v.fetch(ctx, missing, start); err != nil {
				return n, err
			}
			missing = missing[:0]
		}
		if pt.err != nil {
			return pt.failed(start)
		}
		p, off = p[size:], off+int64(size)
	}
	if n, err := v.fetch(ctx, missing, start); err != nil {
		return n, err
	}
	return int(off - start), nil
}

// near fills a part from the tiers that need not be waited for, the fastest
// first. It reports whether one of them has it.
func (v *View) near(pt *part) bool {
	img := v.img
	if img.touched != nil && v.class == store.Demand {
		img.touched(pt.row)
	}
	n := &img.counts[v.class]
	if img.zeros.has(pt.chunk) {
		clear(pt.p)
		n.zeros.Add(1)
		return true
	}
	if c, plain, ok := img.mem.get(img.key(pt.chunk)); ok {
		pt.fill(c, plain)
		c.Release()
		n.memory.Add(1)
		return true
	}
	if img.readFile(pt) {
		n.file.Add(1)
		return true
	}
	return false
}

// fill copies a part out of its chunk.
func (pt *part) fill(c *store.Chunk, plain []byte) {
	if pt.err = checkSize(plain, pt.chunk.Size, c); pt.err == nil {
		copy(pt.p, plain[pt.skip:])
	}
}

// failed is what a read that began at start returns if the part is its first
// bad one.
func (pt *part) failed(start int64) (n int, err error) {
	n = int(pt.chunk.Start + int64(pt.skip) - start)
	return n, fmt.Errorf("offset %d, chunk number %d: %w", pt.chunk.Start, pt.row, pt.err)
}

// fetch fills parts from the store, all at once. It returns what the read that
// began at start has in front of the first bad one.
func (v *View) fetch(ctx context.Context, parts []part, start int64) (n int, err error) {
	if len(parts) == 0 {
		return 0, nil
	}
	defer v.img.counts[v.class].wait(time.Now())
	// A new name: an argument that goroutines share would cost every hit, too,
	// an allocation.
	both, leave, err := v.img.joinFor(ctx, v.class)
	if err != nil {
		parts[0].err = err
		return parts[0].failed(start)
	}
	defer leave()

	var others sync.WaitGroup
	last := len(parts) - 1
	for i := range parts[:last] {
		others.Go(func() { v.fetchPart(both, &parts[i]) })
	}
	v.fetchPart(both, &parts[last])
	others.Wait()
	for i := range parts {
		if parts[i].err != nil {
			return parts[i].failed(start)
		}
	}
	return 0, nil
}

// fetchPart brings a part's chunk into memory and fills the part.
func (v *View) fetchPart(ctx context.Context, pt *part) {
	img, k := v.img, v.img.key(pt.chunk)
	if v.class != store.Demand {
		leave, err := img.mem.queue(ctx, pt.chunk.Size)
		if err != nil {
			pt.err = err
			return
		}
		defer leave()
	}
	if pt.err = img.mem.reserve(ctx, pt.chunk.Size); pt.err != nil {
		return
	}
	if img.recallPart(pt) {
		img.mem.unreserve(pt.chunk.Size)
		img.counts[v.class].file.Add(1)
		return
	}
	img.counts[v.class].misses.Add(1)
	for {
		// A neighbour may have been faster, above all where room was waited for.
		hinted := img.mem.hintOf(k)
		if c, plain, ok := img.mem.get(k); ok {
			img.mem.unreserve(pt.chunk.Size)
			pt.fill(c, plain)
			c.Release()
			return
		}
		c, plain, err := v.get(ctx, pt.chunk, hinted)
		switch {
		case err == nil:
			pt.fill(c, plain)
			img.offer(pt.row, pt.chunk, c, plain)
			img.mem.put(k, c, plain, v.class)
			return
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case hinted != nil && hinted.Err() != nil:
			continue // the hint was faster
		}
		img.mem.unreserve(pt.chunk.Size)
		pt.err = err
		return
	}
}

// get fetches a chunk in the view's class. If a hint has it under way, the
// store joins the two and hurries; but the hint's request may be through
// already, with its chunk on the way to memory: so the end of the hint ends
// this one, too.
func (v *View) get(ctx context.Context, c index.Chunk, hinted context.Context) (*store.Chunk, []byte, error) {
	if hinted != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(hinted, cancel)()
	}
	return v.img.get(ctx, c, v.class)
}
