package blockcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"caravel/index"
	"caravel/store"
)

// errRows: an index whose rows do not follow one another.
var errRows = errors.New("the rows of the index do not follow one another")

// Rows is the number of chunks of the image.
func (img *Image) Rows() int { return img.table.Len() }

// clip is the part of r that lies in the image.
func (img *Image) clip(r Range) Range {
	if r.Off < 0 || r.Len <= 0 || r.Off >= img.size {
		return Range{}
	}
	return Range{Off: r.Off, Len: min(r.Len, img.size-r.Off)}
}

// await returns when the rows of n bytes at off, which lie in the image, are
// here.
func (img *Image) await(ctx context.Context, class store.Class, off, n int64) error {
	defer img.counts[class].wait(time.Now())
	both, leave, err := img.joinFor(ctx, class)
	if err != nil {
		return err
	}
	defer leave()
	row, err := img.table.Seek(both, off)
	for end := off + n; err == nil && off < end; row++ {
		var c index.Chunk
		c, err = img.row(both, row, off)
		off = c.End()
	}
	if err != nil && both.Err() != nil {
		return context.Cause(both)
	}
	return err
}

// row is the chunk of a row, which must hold the byte at off.
func (img *Image) row(ctx context.Context, row int, off int64) (index.Chunk, error) {
	if row >= img.table.Len() {
		return index.Chunk{Start: off}, fmt.Errorf("blockcache: %w", errRows)
	}
	c, err := img.table.Row(ctx, row)
	if err == nil && (c.Start > off || c.End() <= off) {
		err = fmt.Errorf("blockcache: %w", errRows)
	}
	if err != nil {
		return index.Chunk{Start: off}, err
	}
	return c, nil
}
