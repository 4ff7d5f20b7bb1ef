package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"caravel/index"
	"caravel/store"
)

// StreamOptions tunes Stream. The zero value is a good choice.
type StreamOptions struct {
	InFlight int           // chunks asked for at one time; 0: 128
	Progress *atomic.Int64 // counts bytes written; nil: nobody looks
}

// defaultInFlight is how many chunks are asked for at one time: what fills a
// gigabit link with a round trip of 20 ms. The queue in front of a store sends
// fewer where that is of no use.
const defaultInFlight = 128

// Stream writes the n bytes of the image at off to w, in order, with many
// chunks on their way at one time. The range must lie inside the image. Of the
// index no more rows need be here than those of the range.
func Stream(ctx context.Context, x index.Table, s store.Store, w io.Writer, off, n int64, opt StreamOptions) error {
	r, err := NewReader(ctx, x, s, off, n, opt)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.WriteTo(w)
	return err
}

// A Reader gives a part of an image in order. It is used by one goroutine.
type Reader struct {
	ctx      context.Context // of the fetches; its cause is that of the caller's
	cancel   context.CancelFunc
	fetching sync.WaitGroup
	ordered  chan *pending
	weight   *semaphore.Weighted
	progress *atomic.Int64

	off, end int64 // of the image, what is still to be given
	now      *pending
	rest     []byte // of now's bytes
	err      error  // of the first read that had one
}

// NewReader is Stream for who wants to read. Many chunks are fetched ahead, at
// once; Close ends that.
func NewReader(ctx context.Context, x index.Table, s store.Store, off, n int64, opt StreamOptions) (*Reader, error) {
	if off < 0 || n < 0 || off > x.Size() || n > x.Size()-off {
		return nil, fmt.Errorf("image: bytes %d to %d: the image has %d", off, off+n, x.Size())
	}
	if opt.InFlight == 0 {
		opt.InFlight = defaultInFlight
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	r := &Reader{
		ordered:  make(chan *pending, opt.InFlight),
		weight:   semaphore.NewWeighted(max(inFlightBytes, int64(x.Chunking().Max))),
		progress: opt.Progress,
		off:      off,
		end:      off + n,
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.fetching.Go(func() { r.fetch(x, s, off, off+n) })
	return r, nil
}

// fetch asks for the chunks of the bytes from off to end, as many at a time as
// the bounds allow.
func (r *Reader) fetch(x index.Table, s store.Store, off, end int64) {
	defer close(r.ordered)
	if off == end {
		return
	}
	row, err := x.Seek(r.ctx, off)
	for ; off < end; row++ {
		p := &pending{err: err, done: make(chan struct{})}
		if err == nil {
			p.Chunk, p.err = x.Row(r.ctx, row)
		}
		if r.weight.Acquire(r.ctx, int64(p.Size)) != nil {
			return
		}
		failed := p.err != nil
		select {
		case r.ordered <- p:
		case <-r.ctx.Done():
			return
		}
		if failed { // no row, no chunk, and none behind it
			close(p.done)
			return
		}
		r.fetching.Go(func() { p.fetch(r.ctx, x, s) })
		off = p.End()
	}
}

// Read gives what is left of the chunk that it has come to.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.used(n)
	return n, nil
}

// WriteTo writes the chunks as they are to w, without a copy.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		err := r.next()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(r.rest)
		r.used(n)
		written += int64(n)
		if err != nil {
			return written, cmp.Or(context.Cause(r.ctx), err)
		}
	}
}

// next waits for the next chunk, unless something of the last one is left.
func (r *Reader) next() error {
	if len(r.rest) > 0 || r.err != nil {
		return r.err
	}
	if r.off == r.end {
		return io.EOF
	}
	p, ok := <-r.ordered
	if !ok {
		r.err = context.Cause(r.ctx)
		return r.err
	}
	<-p.done
	r.now = p
	if p.err != nil {
		r.err = cmp.Or(context.Cause(r.ctx), p.err)
		return r.err
	}
	r.rest = p.plain[r.off-p.Start : min(r.end, p.End())-p.Start]
	return nil
}

// used takes n bytes off the rest of a chunk, and lets it go at its end.
func (r *Reader) used(n int) {
	r.rest = r.rest[n:]
	r.off += int64(n)
	r.progress.Add(int64(n))
	if len(r.rest) == 0 {
		r.drop()
	}
}

func (r *Reader) drop() {
	r.now.release()
	r.weight.Release(int64(r.now.Size))
	r.now = nil
}

// Close ends what is under way.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = errClosed
	}
	r.cancel()
	r.rest = nil
	if r.now != nil {
		r.drop()
	}
	for p := range r.ordered { // what was fetched for nothing
		<-p.done
		p.release()
	}
	r.fetching.Wait()
	return nil
}

var errClosed = fmt.Errorf("image: reader %w", fs.ErrClosed)

// A pending is a chunk that was asked for.
type pending struct {
	index.Chunk
	done  chan struct{} // closed when the rest is set
	chunk *store.Chunk
	plain []byte
	err   error
}

func (p *pending) fetch(ctx context.Context, x index.Table, s store.Store) {
	defer close(p.done)
	p.chunk, p.plain, p.err = get(ctx, x, s, p.Chunk)
}

func (p *pending) release() {
	if p.chunk != nil {
		p.chunk.Release()
	}
}

// get fetches one chunk of an image and makes sure of it. The caller releases
// the chunk when it is done with the bytes.
func get(ctx context.Context, x index.Table, s store.Store, want index.Chunk) (*store.Chunk, []byte, error) {
	c, err := s.Get(ctx, store.Want{ID: want.ID, Size: want.Size, Digest: x.Digest()})
	if err != nil {
		return nil, nil, located(want, err)
	}
	if err := c.Verify(); err != nil {
		c.Release()
		return nil, nil, located(want, err)
	}
	plain, err := c.Plain()
	if err != nil {
		c.Release()
		return nil, nil, located(want, err)
	}
	return c, plain, nil
}

// located says which bytes of the image an unreadable chunk holds.
func located(c index.Chunk, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("image: bytes %d to %d: %w", c.Start, c.End(), err)
}
