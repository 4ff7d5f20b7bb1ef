// Package sector makes whole sectors of an image: a block device has nothing
// else, and an image may end anywhere.
//
//	r, size := sector.Pad(image, n, 512)
package sector

import (
	"context"
	"io"
)

// A Reader gives bytes by io.ReaderAt's rules.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Pad returns r with zeros after its size bytes, up to the end of the last
// sector, and the size that this makes. A reader that ends with a sector is
// returned as it is.
func Pad(r Reader, size int64, sector int) (Reader, int64) {
	rest := size % int64(sector)
	if rest == 0 {
		return r, size
	}
	end := size - rest + int64(sector)
	return &padded{r, size, end}, end
}

type padded struct {
	Reader
	size, end int64
}

func (r *padded) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= r.end {
		return 0, io.EOF
	}
	inside := max(0, min(int64(len(p)), r.size-off))
	n := 0
	if inside > 0 {
		var err error
		n, err = r.Reader.ReadAt(ctx, p[:inside], off)
		if int64(n) < inside {
			return n, err
		}
	}
	zeros := p[inside:min(int64(len(p)), r.end-off)]
	clear(zeros)
	n += len(zeros)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
