// Package index reads, checks and writes casync's index files: the list of the
// chunks that a stream was cut into (.caibx for a blob, .caidx for an archive).
//
// The format is described in docs/formats.md, section 3: a header, a row of 40
// bytes for each chunk, a tail. [Read] refuses whatever casync would not have
// written, so an index that was read and is written back is the same file byte
// for byte. A new one is put together from the chunks in their order:
//
//	b := index.NewBuilder(feature.Blob(digest), p)
//	for chunk, err := range chunker.Chunks(r, p) {
//		…
//		err = b.Append(digest.Sum(chunk), len(chunk))
//	}
//	_, err = b.Index().WriteTo(w)
//
// An index of a 1 TiB image has 16 million rows. They are kept in one flat
// slice of 40 bytes a row, in which the garbage collector finds no pointer to
// follow. Where even to wait for them takes too long, a [Remote] brings the rows
// that somebody asks for first; who reads images takes a [Table], which both are.
package index

import (
	"sort"
	"sync"

	"caravel/chunker"
	"caravel/feature"
)

// An Index is a checked list of chunks. It is not changed after it was read or
// built and may be used by many goroutines.
type Index struct {
	Flags  feature.Flags
	Params chunker.Params

	rows []row

	summed sync.Once
	sum    [32]byte // once summed
}

// A row is one chunk as the file has it.
type row struct {
	end int64 // offset of the first byte behind the chunk
	id  chunker.ID
}

// A Chunk is one row of an index: where in the stream which chunk lies.
type Chunk struct {
	ID    chunker.ID
	Start int64 // offset of its first byte in the stream
	Size  int   // plain bytes, 1 to chunker.MaxSize
}

// End is the offset of the first byte behind the chunk.
func (c Chunk) End() int64 { return c.Start + int64(c.Size) }

// Digest is the algorithm of the chunks' IDs.
func (x *Index) Digest() chunker.Digest { return x.Flags.Digest() }

// Len is the number of chunks, repeated ones counted each time.
func (x *Index) Len() int { return len(x.rows) }

// Size is the length of the stream in bytes.
func (x *Index) Size() int64 { return x.start(len(x.rows)) }

// Chunk returns chunk i, 0 ≤ i < Len.
func (x *Index) Chunk(i int) Chunk {
	start := x.start(i)
	return Chunk{ID: x.rows[i].id, Start: start, Size: int(x.rows[i].end - start)}
}

// Find returns the number of the chunk that holds the byte at off, or Len if
// off lies behind the end. off must not be negative.
//
// In the index of a 1 TiB image this takes 1.2 µs, most of it for memory that is
// in no cache. Guessing a first row from the offset saves a third of that, too
// little beside a read of 30 µs to be worth its code.
func (x *Index) Find(off int64) int {
	return sort.Search(len(x.rows), func(i int) bool { return x.rows[i].end > off })
}

// Range returns the chunks [first, last) that hold the n bytes at off, cut at
// the end of the stream.
func (x *Index) Range(off, n int64) (first, last int) {
	first = x.Find(off)
	if n <= 0 || first == len(x.rows) {
		return first, first
	}
	if n >= x.Size()-off {
		return first, len(x.rows)
	}
	return first, x.Find(off+n-1) + 1
}

func (x *Index) start(i int) int64 {
	if i == 0 {
		return 0
	}
	return x.rows[i-1].end
}

// ID is that of chunk i, not to be changed: for who sorts by millions of them.
func (x *Index) ID(i int) *chunker.ID { return &x.rows[i].id }
