package blockcache

import "iter"

// Holes yields offset and length of the chunks of zeros that touch the n bytes
// at off, in order; adjacent ones are one. It fetches nothing and does not
// wait. Zeros inside a chunk of data are data.
func (img *Image) Holes(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		first, last := img.index.Range(off, n)
		var start, end int64
		for i := first; i < last; i++ {
			c := img.index.Chunk(i)
			if !img.zeros.has(c) {
				continue
			}
			if c.Start == end && end > start {
				end = c.End()
				continue
			}
			if end > start && !yield(start, end-start) {
				return
			}
			start, end = c.Start, c.End()
		}
		if end > start {
			yield(start, end-start)
		}
	}
}
