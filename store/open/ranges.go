package open

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"caravel/store"
)

// headSize is how much Ranges asks for at first: at 20 ms a round trip and
// 1 Gbit/s, 8 ms of the link; the whole index of an image of 1.7 GB.
const headSize = 1 << 20

// Ranges opens a file for whoever keeps what he reads: unlike with At, a read
// is one request for just these bytes. The first answer brings the beginning of
// the file, and all of one up to 1 MiB; reads in there cost no request. All that
// is read is of one version: the error of another one's matches
// store.ErrChanged.
//
// If the file is behind a network and still the version in have, the error
// matches store.ErrUnchanged; a zero have is none's.
func Ranges(ctx context.Context, location string, have store.Info, opt Options) (*File, error) {
	if f, err := atHere(ctx, location, opt); f != nil || err != nil {
		return f, err
	}
	b, name, err := Object(location, opt)
	if err != nil {
		return nil, err
	}
	v, head, err := begin(ctx, b, name, headSize, have, opt)
	if err != nil {
		return nil, err
	}
	if head == nil {
		return v.spool(ctx)
	}
	return &File{readerAt: &ranged{version: v, head: head}, where: v.where(), info: v.info}, nil
}

// A ranged is a file behind a network of which nothing is kept but the head.
type ranged struct {
	version
	head   []byte
	closed atomic.Bool
}

func (r *ranged) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("open: %s: %w: offset %d", r.name, fs.ErrInvalid, off)
	}
	if r.closed.Load() {
		return 0, fmt.Errorf("open: %s: %w", r.name, fs.ErrClosed)
	}
	there := p[:min(int64(len(p)), max(r.info.Size-off, 0))]
	n := 0
	if off < int64(len(r.head)) {
		n = copy(there, r.head[off:])
	}
	if n < len(there) {
		if err := r.receive(ctx, there[n:], off+int64(n)); err != nil {
			return n, err
		}
	}
	return len(there), eof(len(p) - len(there))
}

func (r *ranged) Want(int64, int64) {}

func (r *ranged) Has(off int64) (bool, int64) {
	if head := int64(len(r.head)); off < head {
		return off >= 0, head
	}
	return false, r.info.Size
}

func (r *ranged) Close() error {
	r.closed.Store(true)
	return nil
}

// Content is all of the file: an error if that is more than limit bytes. Memory
// grows with what has come.
func (f *File) Content(ctx context.Context, limit int64) ([]byte, error) {
	if f.Size() > limit {
		return nil, fmt.Errorf("open: %s: more than %d bytes", f.where, limit)
	}
	var content []byte
	for have := int64(0); have < f.Size(); have = int64(len(content)) {
		next := min(f.Size(), max(headSize, 8*have))
		content = append(make([]byte, 0, next), content...)[:next]
		n, err := f.ReadAt(ctx, content[have:], have)
		switch {
		case n == len(content[have:]):
		case err == io.EOF: // it was longer when it was opened
			return nil, fmt.Errorf("open: %s: %w after %d of %d bytes", f.where, io.ErrUnexpectedEOF, have+int64(n), f.Size())
		default:
			return nil, err
		}
	}
	return content, nil
}
