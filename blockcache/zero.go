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
	size   int64 // of the image
	sizes  [2]zeroSize
	rest   struct { // the last chunk, whose row may not be here yet
		once sync.Once
		id   chunker.ID
	}
}

type zeroSize struct {
	size int
	id   func() chunker.ID // computed at the first use: 128 MiB take a while
}

func newZeros(t index.Table) *zeros {
	z := &zeros{digest: t.Digest(), size: t.Size()}
	p := t.Chunking()
	for i, size := range [...]int{p.Max, p.Min} {
		z.sizes[i] = zeroSize{size, sync.OnceValue(func() chunker.ID { return zeroID(z.digest, size) })}
	}
	return z
}

// has reports whether c, a chunk of the image, is known to hold only zeros.
func (z *zeros) has(c index.Chunk) bool {
	for i := range z.sizes {
		if z.sizes[i].size == c.Size {
			return z.sizes[i].id() == c.ID
		}
	}
	if c.End() != z.size {
		return false
	}
	z.rest.once.Do(func() { z.rest.id = zeroID(z.digest, c.Size) })
	return z.rest.id == c.ID
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
