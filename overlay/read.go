package overlay

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// baseReads is how many reads of the base one ReadAt has under way, if what it
// asks for is here and there.
const baseReads = 16

// ReadAt reads from the disk, by the rules of io.ReaderAt. The base is asked for
// what was not written, and for nothing else; its errors are returned as they are.
func (d *Disk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, d.check(off, int64(len(p)))
	}
	if off >= d.header.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > d.header.size-off
	if short {
		p = p[:d.header.size-off]
	}
	n, err := d.read(ctx, p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// read is ReadAt within the disk.
func (d *Disk) read(ctx context.Context, p []byte, off int64) (int, error) {
	present, n, err := d.run(off, int64(len(p)))
	switch {
	case err != nil:
		return 0, err
	case n == int64(len(p)) && present:
		return d.readFile(p, off)
	case n == int64(len(p)):
		return d.readBase(ctx, p, off)
	}
	return d.readMixed(ctx, p, off)
}

// readMixed reads what is partly in the file, and partly in the base: there, all
// at the same time.
func (d *Disk) readMixed(ctx context.Context, p []byte, off int64) (int, error) {
	var reads errgroup.Group
	reads.SetLimit(baseReads)
	var parts []*part // in order
	for at := int64(0); at < int64(len(p)); {
		present, n, err := d.run(off+at, int64(len(p))-at)
		if err != nil {
			n = int64(len(p)) - at
		}
		one, q, from := &part{at: at, err: err}, p[at:at+n], off+at
		parts = append(parts, one)
		switch {
		case err != nil:
		case present:
			one.n, one.err = d.readFile(q, from)
		default:
			reads.Go(func() error {
				one.n, one.err = d.readBase(ctx, q, from)
				return nil
			})
		}
		at += n
	}
	_ = reads.Wait() // each part has its own
	for _, one := range parts {
		if one.err != nil {
			return int(one.at) + one.n, one.err
		}
	}
	return len(p), nil
}

// A part of a read is what came of n bytes at an offset in it.
type part struct {
	at  int64
	n   int
	err error
}

// run tells whether the bytes at off are in the file, and how many of the n are
// so without a gap.
func (d *Disk) run(off, n int64) (present bool, same int64, err error) {
	first, end := d.span(off, n)
	present, stop, err := d.blocks.run(first, end)
	if err != nil {
		return false, 0, d.wrong(d.blocks.durableAt(int(first/pageBlocks)), err)
	}
	return present, min(stop*d.header.block-off, n), nil
}

// span is the blocks that have the n bytes at off.
func (d *Disk) span(off, n int64) (first, end int64) {
	return off / d.header.block, (off + n + d.header.block - 1) / d.header.block
}

// readFile reads what is present.
func (d *Disk) readFile(p []byte, off int64) (int, error) {
	at := d.header.dataAt() + off
	if err := readFull(d.file, p, at); err != nil {
		return 0, d.wrong(at, err)
	}
	return len(p), nil
}

// readBase reads what is not. Behind the base's end there are zeros.
func (d *Disk) readBase(ctx context.Context, p []byte, off int64) (int, error) {
	inside := min(max(d.base.size-off, 0), int64(len(p)))
	clear(p[inside:])
	if inside == 0 {
		return len(p), nil
	}
	n, err := d.base.ReadAt(ctx, p[:inside], off)
	switch {
	case int64(n) == inside:
		return len(p), nil
	case err == io.EOF || err == nil:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
