package overlay

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// WriteAt writes to the disk, by the rules of io.WriterAt; it changes nothing if
// not all of p is on the disk. It waits for the base if p begins or ends within a
// block that is not present. If that fails, or ctx ends, nothing has changed. If
// the file cannot be written, each block has its old or its new content; a full
// disk is an error that matches syscall.ENOSPC (or EDQUOT).
func (d *Disk) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n := int64(len(p))
	if err := d.check(off, n); err != nil || n == 0 {
		return 0, err
	}
	err := d.change(ctx, off, n, func() error {
		at := d.header.dataAt() + off
		if _, err := d.file.WriteAt(p, at); err != nil {
			return d.wrong(at, err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// zeroStep is the most that is zeroed in one go: others wait for it, in the
// kernel.
const zeroStep = 1 << 30

// Zero makes n bytes at off zeros, and keeps room for them in the file if reserve
// is set. It waits and fails as WriteAt does, but may have done a part of it.
func (d *Disk) Zero(ctx context.Context, off, n int64, reserve bool) error {
	if err := d.check(off, n); err != nil {
		return err
	}
	for end := off + n; off < end; {
		step := min(end, (off/zeroStep+1)*zeroStep) - off
		if err := d.zero(ctx, off, step, reserve); err != nil {
			return err
		}
		off += step
	}
	return d.failed()
}

// zero leaves alone what the base has as zeros, unless there is to be room.
func (d *Disk) zero(ctx context.Context, off, n int64, reserve bool) error {
	one := func(off, end int64) error {
		if off == end {
			return context.Cause(ctx)
		}
		return d.change(ctx, off, end-off, func() error {
			at := d.header.dataAt() + off
			if err := d.file.zero(at, end-off, reserve); err != nil {
				return d.wrong(at, err)
			}
			return nil
		})
	}
	at := off
	if !reserve {
		for hole, size := range d.untouched(off, n) {
			if err := one(at, hole); err != nil {
				return err
			}
			at = hole + size
		}
	}
	return one(at, off+n)
}

// Discard makes zeros of all blocks that lie within the n bytes at off, and gives
// back their room. The rest of a block at either end stays as it is. It is an
// error if the file cannot be written, though nobody needs to care.
func (d *Disk) Discard(ctx context.Context, off, n int64) error {
	if err := d.check(off, n); err != nil {
		return err
	}
	block := d.header.block
	end := off + n
	if end < d.header.size { // the last block is whole even if it is cut
		end = end / block * block
	}
	off = (off + block - 1) / block * block
	if off >= end {
		return d.failed()
	}
	return d.Zero(ctx, off, end-off, false)
}

// change has apply change the n bytes at off in the file, where their blocks are
// then complete and present.
func (d *Disk) change(ctx context.Context, off, n int64, apply func() error) error {
	if err := d.failed(); err != nil {
		return err
	}
	present, same, err := d.run(off, n)
	if err != nil {
		return err
	}
	if present && same == n {
		return apply() // nobody takes away what is present
	}
	first, end := d.span(off, n)
	mine, err := d.busy.take(ctx, first, end)
	if err != nil {
		return err
	}
	defer d.busy.give(mine)
	fills, err := d.fills(ctx, off, n)
	if err != nil {
		return err
	}
	// Nobody reads a block before its bit is set, so the order does not matter.
	for _, f := range fills {
		at := d.header.dataAt() + f.off
		if _, err := d.file.WriteAt(f.p, at); err != nil {
			return d.wrong(at, err)
		}
	}
	if err := apply(); err != nil {
		return err
	}
	if err := d.blocks.mark(first, end); err != nil {
		return d.wrong(d.header.volatileAt()+first/pageBlocks*pageSize, err)
	}
	return nil
}

// A fill is what a block has beside that which is written, from the base.
type fill struct {
	off int64
	p   []byte
}

// fills reads what the first and the last of the blocks need that have the n bytes
// at off. The caller holds them.
func (d *Disk) fills(ctx context.Context, off, n int64) ([]fill, error) {
	first, end := d.span(off, n)
	var fills []fill
	for _, f := range []struct{ block, from, to int64 }{
		{first, first * d.header.block, off},
		{end - 1, off + n, min(end*d.header.block, d.header.size)},
	} {
		if f.from == f.to {
			continue
		}
		present, _, err := d.run(f.block*d.header.block, 1)
		if err != nil {
			return nil, err
		}
		if !present {
			fills = append(fills, fill{f.from, make([]byte, f.to-f.from)})
		}
	}
	return fills, d.readFills(ctx, fills)
}

// readFills reads the two of one write at the same time.
func (d *Disk) readFills(ctx context.Context, fills []fill) error {
	one := func(f fill) error {
		if _, err := d.readBase(ctx, f.p, f.off); err != nil {
			return fmt.Errorf("%s: offset %d of the disk: filling a block from the base: %w", d.path, f.off, err)
		}
		return nil
	}
	if len(fills) == 1 {
		return one(fills[0])
	}
	var reads errgroup.Group
	for _, f := range fills {
		reads.Go(func() error { return one(f) })
	}
	return reads.Wait()
}
