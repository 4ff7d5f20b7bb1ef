package blockcache

import (
	"io"
	"sync"

	"caravel/chunker"
	"caravel/index"
)

// zeros tells the chunks that hold nothing but zeros by their ID. A run of
// zeros is cut at the minimum or at the maximum, always at the same one, and
// the end of the image leaves a rest: those are the sizes known.
type zeros struct {
	digest chunker.Digest
	sizes  []*zeroSize
}

type zeroSize struct {
	size int
	id   func() chunker.ID // computed at the first use: 128 MiB take a while
}

func newZeros(x *index.Index) *zeros {
	z := &zeros{digest: x.Digest()}
	z.add(x.Params.Max)
	z.add(x.Params.Min)
	if n := x.Len(); n > 0 {
		z.add(x.Chunk(n - 1).Size)
	}
	return z
}

func (z *zeros) add(size int) {
	for _, known := range z.sizes {
		if known.size == size {
			return
		}
	}
	z.sizes = append(z.sizes, &zeroSize{size, sync.OnceValue(func() chunker.ID {
		return zeroID(z.digest, size)
	})})
}

// has reports whether c is known to hold only zeros.
func (z *zeros) has(c index.Chunk) bool {
	for _, known := range z.sizes {
		if known.size == c.Size {
			return known.id() == c.ID
		}
	}
	return false
}

// zeroID is the ID of size zeros.
func zeroID(d chunker.Digest, size int) (id chunker.ID) {
	h := d.New()
	_, _ = io.CopyN(h, zeroReader{}, int64(size)) // neither end can fail
	h.Sum(id[:0])
	return id
}

// zeroReader gives zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
