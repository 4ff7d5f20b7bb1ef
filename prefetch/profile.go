package prefetch

import (
	"iter"
	"slices"

	"caravel/chunker"
	"caravel/index"
)

// maxChunks is the most chunks that a profile holds: 64 GiB of an image that is
// cut as usual. What a run touches beyond that is no working set.
const maxChunks = 1 << 20

// elsewhere is the offset of a chunk that belongs to another version of the
// image, and so has no place in the one that the profile names.
const elsewhere = -1

// A Profile is what a run touched of an image, in the order of first touch. Its
// file is described in docs/formats.md, section 15. It names chunks by place and
// by ID, so that it serves the next version of the image as far as its chunks
// are still there.
type Profile struct {
	Index [32]byte // SHA-512/256 of the index file that it was recorded with

	chunks []index.Chunk // Start is the offset in the image, or elsewhere
}

// Len is the number of chunks.
func (p *Profile) Len() int { return len(p.chunks) }

// Bytes is the size of all chunks, not packed.
func (p *Profile) Bytes() (n int64) {
	for _, c := range p.chunks {
		n += int64(c.Size)
	}
	return n
}

// Chunks are the chunks in their order. Start is -1 for one that another version
// of the image has, wherever.
func (p *Profile) Chunks() iter.Seq[index.Chunk] { return slices.Values(p.chunks) }

// Runs is the number of ranges that the chunks form: those of one lie side by
// side in the image and follow one another in the profile.
func (p *Profile) Runs() (n int) {
	for range p.runs() {
		n++
	}
	return n
}

// runs are the chunks in as few parts as possible.
func (p *Profile) runs() iter.Seq[[]index.Chunk] {
	return func(yield func([]index.Chunk) bool) {
		for rest := p.chunks; len(rest) > 0; {
			n := 1
			for n < len(rest) && follows(rest[n-1], rest[n]) {
				n++
			}
			if !yield(rest[:n:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// follows reports whether c goes into the run of which last is the last chunk.
func follows(last, c index.Chunk) bool {
	if last.Start == elsewhere || c.Start == elsewhere {
		return last.Start == c.Start
	}
	return c.Start == last.End()
}

// Merge appends what others touched and p did not. Of a profile of another index
// it takes the IDs only.
func (p *Profile) Merge(others ...*Profile) {
	at, ids := make(map[int64]bool), make(map[chunker.ID]bool)
	note := func(c index.Chunk) {
		at[c.Start], ids[c.ID] = true, true
	}
	for _, c := range p.chunks {
		note(c)
	}
	for _, o := range others {
		for c := range o.Chunks() {
			if o.Index != p.Index {
				c.Start = elsewhere
			}
			known := c.Start == elsewhere && ids[c.ID] || c.Start != elsewhere && at[c.Start]
			if known || len(p.chunks) == maxChunks {
				continue
			}
			note(c)
			p.chunks = append(p.chunks, c)
		}
	}
}
