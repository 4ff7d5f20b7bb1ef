package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
// chunks on their way at one time. The range must lie inside the image.
func Stream(ctx context.Context, x *index.Index, s store.Store, w io.Writer, off, n int64, opt StreamOptions) error {
	if off < 0 || n < 0 || off > x.Size() || n > x.Size()-off {
		return fmt.Errorf("image: bytes %d to %d: the image has %d", off, off+n, x.Size())
	}
	if opt.InFlight == 0 {
		opt.InFlight = defaultInFlight
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	ctx, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer cancel()

	first, last := x.Range(off, n)
	weight := semaphore.NewWeighted(max(inFlightBytes, int64(x.Params.Max)))
	ordered := make(chan *pending, opt.InFlight)
	fetching.Go(func() {
		defer close(ordered)
		for i := first; i < last; i++ {
			c := x.Chunk(i)
			if weight.Acquire(ctx, int64(c.Size)) != nil {
				return
			}
			p := &pending{Chunk: c, done: make(chan struct{})}
			select {
			case ordered <- p:
			case <-ctx.Done():
				return
			}
			fetching.Go(func() { p.fetch(ctx, x, s) })
		}
	})
	err := drain(ordered, w, off, off+n, weight, opt.Progress)
	err = cmp.Or(context.Cause(ctx), err)
	cancel()
	for p := range ordered { // what was fetched for nothing
		<-p.done
		p.release()
	}
	return err
}

// drain writes what arrives, in order: the bytes [off, end) of the image.
func drain(ordered <-chan *pending, w io.Writer, off, end int64, weight *semaphore.Weighted, progress *atomic.Int64) error {
	for p := range ordered {
		<-p.done
		err := p.err
		if err == nil {
			from, to := max(off, p.Start)-p.Start, min(end, p.End())-p.Start
			_, err = w.Write(p.plain[from:to])
			progress.Add(to - from)
		}
		p.release()
		weight.Release(int64(p.Size))
		if err != nil {
			return err
		}
	}
	return nil
}

// A pending is a chunk that was asked for.
type pending struct {
	index.Chunk
	done  chan struct{} // closed when the rest is set
	chunk *store.Chunk
	plain []byte
	err   error
}

func (p *pending) fetch(ctx context.Context, x *index.Index, s store.Store) {
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
func get(ctx context.Context, x *index.Index, s store.Store, want index.Chunk) (*store.Chunk, []byte, error) {
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
