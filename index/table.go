package index

import (
	"context"

	"caravel/chunker"
)

// A Table is an index as far as it is here. An [*Index] is one of which all is,
// a [*Remote] one whose rows come when they are needed. Offsets and rows are
// inside the image: 0 ≤ off < Size, 0 ≤ i < Len. Its methods may be called from
// many goroutines.
type Table interface {
	Digest() chunker.Digest
	Chunking() chunker.Params // the sizes between which chunks were cut
	Size() int64
	Len() int

	// Seek is the number of the chunk that holds the byte at off. It waits for
	// the rows that it needs.
	Seek(ctx context.Context, off int64) (row int, err error)

	// Row is chunk i. It waits for the rows that it needs.
	Row(ctx context.Context, i int) (Chunk, error)

	// Ready reports whether Seek and Row answer for the n bytes at off without
	// waiting, for hints.
	Ready(off, n int64) bool
}

var (
	_ Table = (*Index)(nil)
	_ Table = (*Remote)(nil)
)

// Chunking is the Params.
func (x *Index) Chunking() chunker.Params { return x.Params }

// Seek is Find.
func (x *Index) Seek(_ context.Context, off int64) (int, error) { return x.Find(off), nil }

// Row is Chunk.
func (x *Index) Row(_ context.Context, i int) (Chunk, error) { return x.Chunk(i), nil }

// Ready is true.
func (x *Index) Ready(int64, int64) bool { return true }
