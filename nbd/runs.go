package nbd

import "iter"

// A run is a range of which all, or nothing, is in some ranges.
type run struct {
	off, n int64
	in     bool
}

// runs yields the n bytes at off as runs in order, without gaps, by what known
// yields. Ranges that adjoin are one; what is smaller than least counts as not
// in them.
func runs(known ranges, off, n, least int64) iter.Seq[run] {
	return func(yield func(run) bool) {
		rest := off                // start of what is not yet yielded
		grows := run{off, 0, true} // while ranges adjoin
		// settle yields what grows, and what is in front of it.
		settle := func() bool {
			if grows.n < least {
				return true
			}
			if grows.off > rest && !yield(run{rest, grows.off - rest, false}) {
				return false
			}
			rest = grows.off + grows.n
			return yield(grows)
		}
		end := off + n
		for at, size := range known(off, n) {
			if at < 0 || at >= end || size <= 0 {
				continue
			}
			stop := at + min(size, end-at)
			at = max(at, grows.off+grows.n)
			if at >= stop {
				continue
			}
			if at > grows.off+grows.n {
				if !settle() {
					return
				}
				grows = run{at, 0, true}
			}
			grows.n += stop - at
		}
		if settle() && rest < end {
			yield(run{rest, end - rest, false})
		}
	}
}
