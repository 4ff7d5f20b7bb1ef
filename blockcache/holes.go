package blockcache

import (
	"context"
	"iter"
)

// Holes yields offset and length of the chunks of zeros that touch the n bytes
// at off, in order; adjacent ones are one. It fetches nothing and does not
// wait: where rows are still on their way no hole is known. Zeros inside a
// chunk of data are data.
func (img *Image) Holes(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		r := img.clip(Range{off, n})
		if r.Len == 0 || !img.table.Ready(r.Off, r.Len) {
			return
		}
		ctx := context.Background() // nothing waits
		row, err := img.table.Seek(ctx, r.Off)
		var start, end int64
		for at := r.Off; err == nil && at < r.Off+r.Len; row++ {
			c, bad := img.row(ctx, row, at)
			if bad != nil {
				break
			}
			at = c.End()
			switch {
			case !img.zeros.has(c):
				continue
			case c.Start == end && end > start:
				end = c.End()
				continue
			case end > start && !yield(start, end-start):
				return
			}
			start, end = c.Start, c.End()
		}
		if end > start {
			yield(start, end-start)
		}
	}
}
