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
	flags  feature.Flags
	params chunker.Params
	rows   []row
}

// NewBuilder starts the index of a stream that is cut with p.
func NewBuilder(f feature.Flags, p chunker.Params) *Builder {
	return &Builder{flags: f, params: p}
}

// Append adds the next chunk of the stream. It refuses what no index may hold:
// a chunk below 1 byte or above the maximum.
func (b *Builder) Append(id chunker.ID, size int) error {
	var start int64
	if n := len(b.rows); n > 0 {
		start = b.rows[n-1].end
	}
	if size < 1 || size > b.params.Max {
		return fmt.Errorf("index: chunk %d at %d: %d bytes, not 1 to %d", len(b.rows), start, size, b.params.Max)
	}
	if int64(size) > math.MaxInt64-start {
		return fmt.Errorf("index: chunk %d at %d: %d bytes, which ends beyond 2^63-1", len(b.rows), start, size)
	}
	b.rows = append(b.rows, row{start + int64(size), id})
	return nil
}

// Index returns the index of what was appended until now.
func (b *Builder) Index() *Index {
	return &Index{Flags: b.flags, Params: b.params, rows: slices.Clip(b.rows)}
}
