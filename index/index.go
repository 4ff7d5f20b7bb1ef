// Package index reads, checks and writes casync's index files: the list of the
// chunks that a stream was cut into (.caibx for a blob, .caidx for an archive).
//
// The format is described in docs/formats.md, section 3: a header of 48 bytes,
// rows of 40 bytes and a tail of 40 bytes. An index of a 1 TiB image has
// 16 million rows, so they are kept as one flat slice of 40 bytes a row.
package index

import (
	"sort"

	"caravel/chunker"
)

// Flags are the feature flags of an index file. For a blob only the digest bit
// carries a meaning.
type Flags uint64

// The bits that an index of a blob knows; docs/formats.md has the others.
const (
	ExcludeFile     Flags = 1 << 60
	FlagSHA512_256  Flags = 1 << 61
	ExcludeSubmount Flags = 1 << 62
	ExcludeNodump   Flags = 1 << 63
)

// BlobFlags are what casync writes into the index of a blob made with d.
func BlobFlags(d chunker.Digest) Flags {
	f := ExcludeNodump | ExcludeFile
	if d == chunker.SHA512_256 {
		f |= FlagSHA512_256
	}
	return f
}

// Digest is the algorithm that the flags name.
func (f Flags) Digest() chunker.Digest {
	if f&FlagSHA512_256 != 0 {
		return chunker.SHA512_256
	}
	return chunker.SHA256
}

// An Index is a checked list of chunks. It is not changed after it was read and
// may be used by many goroutines.
type Index struct {
	Flags  Flags
	Params chunker.Params

	rows []row
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
