package blockcache

import (
	"iter"

	"caravel/index"
	"caravel/store"
)

// rowsPerLook is how many chunks one call of Local looks at. Each that is not in
// memory or a file costs a question to the cache on disk, which is a stat: all of
// them take some ten milliseconds.
const rowsPerLook = 4 << 10

// Local yields offset and length of the chunks that touch the n bytes at off and
// are here, in order: known to be zeros, in memory, in the Files that hold them
// (also since an earlier run, when they are still to be verified), or in
// Options.Kept. It fetches nothing, and waits for nothing but Options.Kept; where
// rows are still on their way no chunk is known to be here. Behind rowsPerLook
// chunks it stops, and says where by a range of length 0.
func (img *Image) Local(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		r := img.clip(Range{off, n})
		if r.Len == 0 || !img.table.Ready(r.Off, r.Len) {
			return
		}
		row, err := img.table.Seek(img.life, r.Off)
		last := row + rowsPerLook
		for at := r.Off; err == nil && at < r.Off+r.Len; row++ {
			if row == last {
				yield(at, 0)
				return
			}
			c, bad := img.row(img.life, row, at)
			if bad != nil {
				return
			}
			at = c.End()
			if img.local(row, c) && !yield(c.Start, int64(c.Size)) {
				return
			}
		}
	}
}

// local reports whether a chunk can be read without the store, as far as is known.
func (img *Image) local(row int, c index.Chunk) bool {
	if img.zeros.has(c) || img.claimed(row, c) || img.mem.state(img.key(c)) == Resident {
		return true
	}
	if img.kept == nil {
		return false
	}
	ok, err := img.kept.Has(img.life, store.Want{ID: c.ID, Size: c.Size, Digest: img.digest, Class: store.Demand})
	return ok && err == nil
}

// claimed reports whether files hold a chunk and all of them have it, though
// perhaps not verified.
func (img *Image) claimed(row int, c index.Chunk) bool {
	files := img.filesOf(row, c)
	for _, f := range files {
		if !f.has(row) && !f.claimed.has(row-f.first) {
			return false
		}
	}
	return len(files) > 0
}
