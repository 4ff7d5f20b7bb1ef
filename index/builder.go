package index

import (
	"fmt"
	"math"
	"slices"

	"caravel/chunker"
	"caravel/feature"
)

// A Builder makes the index of a stream while that is cut. It is for one
// goroutine.
type Builder struct {
	x Index
}

// NewBuilder starts the index of a stream that is cut with p.
func NewBuilder(f feature.Flags, p chunker.Params) *Builder {
	return &Builder{Index{Flags: f, Params: p}}
}

// Append adds the next chunk of the stream. It refuses what no index may hold:
// a chunk below 1 byte or above the maximum.
func (b *Builder) Append(id chunker.ID, size int) error {
	start := b.x.Size()
	if size < 1 || size > b.x.Params.Max {
		return fmt.Errorf("index: chunk %d at %d: %d bytes, not 1 to %d", b.x.Len(), start, size, b.x.Params.Max)
	}
	if int64(size) > math.MaxInt64-start {
		return fmt.Errorf("index: chunk %d at %d: %d bytes, which ends beyond 2^63-1", b.x.Len(), start, size)
	}
	b.x.rows = append(b.x.rows, row{start + int64(size), id})
	return nil
}

// Index returns the index of what was appended until now.
func (b *Builder) Index() *Index {
	x := b.x
	x.rows = slices.Clip(x.rows)
	return &x
}
