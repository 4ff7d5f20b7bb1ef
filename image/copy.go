package image

import (
	"cmp"
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// Distinct lists the chunks of an index, each once, but for those in known, to
// which it adds them.
func Distinct(x *index.Index, known map[chunker.ID]bool) []store.Want {
	var wants []store.Want
	for i := range x.Len() {
		c := x.Chunk(i)
		if known[c.ID] {
			continue
		}
		known[c.ID] = true
		wants = append(wants, store.Want{ID: c.ID, Size: c.Size, Digest: x.Digest()})
	}
	return wants
}

// CopyOptions tunes Copy. The zero value is a good choice.
type CopyOptions struct {
	InFlight int           // chunks under way at one time; 0: 128
	Progress *atomic.Int64 // counts plain bytes that are dealt with; nil: nobody looks
}

// Copied is what became of the chunks of a Copy.
type Copied struct {
	Copied  int64 // chunks that dst lacked
	Present int64 // and those that it had
	Bytes   int64 // plain, of those that it lacked
}

// Copy puts the chunks of wants that dst lacks into dst, verified, in dst's form:
// what comes in that form is copied as it is. It stops at the first error, then
// with what was copied until then. In the end all of them, as far as the system
// can tell also those that were there, would survive a power cut.
func Copy(ctx context.Context, dst store.Writer, src store.Store, wants []store.Want, opt CopyOptions) (Copied, error) {
	c := &copying{dst: dst, src: store.Verify(src), progress: opt.Progress}
	if c.progress == nil {
		c.progress = new(atomic.Int64)
	}
	g, each := errgroup.WithContext(ctx)
	weight := semaphore.NewWeighted(inFlightBytes)
	work := make(chan store.Want)
	for range min(cmp.Or(opt.InFlight, defaultInFlight), len(wants)) { // each with the stack that it takes, once
		g.Go(func() error {
			for want := range work {
				if err := c.one(each, want); err != nil {
					return err
				}
				weight.Release(weigh(want))
			}
			return nil
		})
	}
	for _, want := range wants {
		if weight.Acquire(each, weigh(want)) != nil || !hand(each, work, want) {
			break // which Wait or ctx explains
		}
	}
	close(work)
	err := g.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = dst.Sync(ctx)
	}
	return Copied{c.copied.Load(), c.present.Load(), c.bytes.Load()}, err
}

// weigh is what a chunk counts among the bytes under way.
func weigh(want store.Want) int64 { return min(int64(want.Size), inFlightBytes) }

// hand reports whether somebody has taken the chunk before ctx has ended.
func hand(ctx context.Context, work chan<- store.Want, want store.Want) bool {
	select {
	case work <- want:
		return true
	case <-ctx.Done():
		return false
	}
}

// copying is one Copy.
type copying struct {
	dst      store.Writer
	src      store.Store
	progress *atomic.Int64

	copied, present, bytes atomic.Int64
}

func (c *copying) one(ctx context.Context, want store.Want) error {
	there, err := c.dst.Has(ctx, want)
	if err != nil {
		return err
	}
	if !there {
		if err := c.fetch(ctx, want); err != nil {
			return err
		}
		c.copied.Add(1)
		c.bytes.Add(int64(want.Size))
	} else {
		c.present.Add(1)
	}
	c.progress.Add(int64(want.Size))
	return nil
}

func (c *copying) fetch(ctx context.Context, want store.Want) error {
	chunk, err := c.src.Get(ctx, want)
	if err != nil {
		return err
	}
	defer chunk.Release()
	return c.dst.Put(ctx, chunk)
}
