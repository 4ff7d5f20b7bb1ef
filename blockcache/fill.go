package blockcache

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"caravel/store"
)

const (
	fillAtOnce = 64       // chunks that Fill has under way
	fillBytes  = 16 << 20 // and the plain bytes of all that an image has
	fillPasses = 4        // over all chunks
)

// Fill verifies what was in a file before, fetches the rest of it, in a class,
// and returns when it is complete and on disk. A chunk that cannot be had does
// not keep it from fetching the others; any other error ends it, and it can be
// called again.
func (img *Image) Fill(ctx context.Context, f *File, class store.Class) error {
	both, leave, err := img.join(ctx)
	if err != nil {
		return err
	}
	defer leave()
	f.hope()
	// The chunk that ends the file, when it is written, may put others in doubt.
	var left error
	for pass := 0; pass < fillPasses && f.have.Load() < int64(f.rows); pass++ {
		if left != nil && pass > 1 {
			break
		}
		left, err = img.fill(both, f, class)
		if both.Err() != nil {
			return context.Cause(both)
		}
		if err != nil {
			return err
		}
	}
	if left != nil {
		return left
	}
	if err := f.sync(); err != nil {
		return err
	}
	if err := f.chart.out.Sync(); err != nil {
		return f.giveUp(err)
	}
	if !f.Complete() {
		return fmt.Errorf("blockcache: %s: changed while it was filled", f.path)
	}
	return nil
}

// fill goes once over all chunks. left is why one of them cannot be had, which
// the others do not wait for.
func (img *Image) fill(ctx context.Context, f *File, class store.Class) (left, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fillAtOnce)
	var once sync.Once
	for row := f.first; row < f.first+f.rows && ctx.Err() == nil; row++ {
		if f.has(row) {
			continue
		}
		c, err := img.table.Row(ctx, row)
		if err == nil && !f.holds(row, c) {
			err = fmt.Errorf("blockcache: %s: a file of another image", f.path)
		}
		n := min(int64(c.Size), fillBytes)
		if err == nil {
			err = img.filling.Acquire(ctx, n)
		}
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			defer img.filling.Release(n)
			_, err := img.keepInFile(ctx, f, row, c, class)
			if err == nil {
				return nil
			}
			err = fmt.Errorf("offset %d, chunk number %d: %w", c.Start, row, err)
			if !store.Final(err) || ctx.Err() != nil {
				return err
			}
			once.Do(func() { left = err })
			return nil
		})
	}
	err = g.Wait() // and so left is not written any more
	return left, err
}

// keepZeros makes sure that a chunk of zeros is there: a hole, if nobody has
// written to it.
func (f *File) keepZeros(row int) error {
	if err := f.usable(); err != nil {
		return err // a hole needs no room on a full disk
	}
	r := row - f.first
	if !f.whole() {
		return f.giveUp(errCut)
	}
	c := f.index.Chunk(row)
	start, end := f.inside(c)
	zero, err := f.isZero(start-f.opt.Off, end-f.opt.Off)
	if err != nil {
		f.unreadable(r, err)
		return fmt.Errorf("blockcache: %s: %w", f.path, err)
	}
	if !zero {
		return f.write(row, make([]byte, c.Size))
	}
	f.believe(r) // a hole by whatever made it is right
	if !f.claimed.has(r) {
		f.note([]int{r}, nil, 0)
	}
	return nil
}

// isZero reports whether the bytes [off, end) of the file are zeros. Holes are
// not read.
func (f *File) isZero(off, end int64) (bool, error) {
	buf := newScratch(zeroPiece)
	defer scratch.Put(buf)
	for off < end {
		at, err := seekData(f.data, off)
		if err != nil || at < 0 || at >= end {
			return err == nil, err
		}
		p := (*buf)[:min(zeroPiece, end-at)]
		if n, err := f.seen.ReadAt(p, at); n < len(p) {
			return false, err
		}
		for _, b := range p {
			if b != 0 {
				return false, nil
			}
		}
		off = at + int64(len(p))
	}
	return true, nil
}

// zeroPiece is how much of a file is compared with zeros at once.
const zeroPiece = 64 << 10
