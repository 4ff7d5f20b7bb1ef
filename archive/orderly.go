package archive

import (
	"context"
	"errors"
	"io"
)

// window is how far a section that is read in order is fetched ahead.
const window = 8 << 20

// hinted bytes can be told what will be read soon.
type hinted interface {
	Reader
	Want(off, n int64)
}

// An orderly reads a part of something in order, and says all the time what
// will be next.
type orderly struct {
	ctx      context.Context // of the one who reads
	src      hinted
	off, end int64
	told     int64 // src knows of what lies before this
}

func (r *orderly) Read(p []byte) (int, error) {
	if r.off == r.end {
		return 0, io.EOF
	}
	if ahead := min(r.off+window, r.end); ahead-r.told >= window/2 || r.told < r.end && ahead == r.end {
		r.src.Want(r.told, ahead-r.told)
		r.told = ahead
	}
	if rest := r.end - r.off; int64(len(p)) > rest {
		p = p[:rest]
	}
	n, err := r.src.ReadAt(r.ctx, p, r.off)
	r.off += int64(n)
	switch {
	case n > 0 && errors.Is(err, io.EOF):
		err = nil // the next read finds out whether that was all
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (*orderly) Close() error { return nil }
