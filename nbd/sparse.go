package nbd

import "iter"

// A run is a range of an export that is one hole, or has none.
type run struct {
	off, n int64
	hole   bool
}

// runs yields the n bytes at off as runs in order, without gaps. Holes that
// adjoin are one; what is smaller than least counts as data.
func (e *export) runs(off, n, least int64) iter.Seq[run] {
	return func(yield func(run) bool) {
		data := off               // start of the data not yet yielded
		hole := run{off, 0, true} // grows while holes adjoin
		// settle yields the hole and the data in front of it.
		settle := func() bool {
			if hole.n < least {
				return true
			}
			if hole.off > data && !yield(run{data, hole.off - data, false}) {
				return false
			}
			data = hole.off + hole.n
			return yield(hole)
		}
		end := off + n
		for at, size := range e.sparse.Holes(off, n) {
			if at < 0 || at >= end || size <= 0 {
				continue
			}
			stop := at + min(size, end-at)
			at = max(at, hole.off+hole.n)
			if at >= stop {
				continue
			}
			if at > hole.off+hole.n {
				if !settle() {
					return
				}
				hole = run{at, 0, true}
			}
			hole.n += stop - at
		}
		if settle() && data < end {
			yield(run{data, end - data, false})
		}
	}
}
