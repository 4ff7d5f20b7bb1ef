package tree

import (
	"iter"
	"sync"

	"caravel/catar"
)

const (
	maxRun       = 64 << 10 // bytes of a run
	maxGap       = 4 << 10  // between what is wanted of it: no chunk lies in there alone
	chunk        = 64 << 10 // the usual size of one
	hintsPerRead = 2        // chunks hinted at for each read that may be under way
)

var buffers = sync.Pool{New: func() any { return new([maxRun]byte) }}

// A run is a range that is read at once: the heads of neighbours, and their
// last bytes, where directories have their tables.
type run struct {
	off, end    int64
	first, last int  // the children of which there is something in it
	tailFirst   bool // of the first one, the last bytes only
	headLast    bool // of the last one, the first bytes only
}

// runs are what has to be read of a directory to know its children.
func runs(tb *catar.Table) iter.Seq[run] {
	return func(yield func(run) bool) {
		var r run
		add := func(i int, off, end int64, head, tail bool) bool {
			if r.end > 0 && off-r.end <= maxGap && end-r.off <= maxRun {
				r.end, r.last, r.headLast = end, i, head
				return true
			}
			full := r
			r = run{off: off, end: end, first: i, last: i, tailFirst: tail, headLast: head}
			return full.end == 0 || yield(full)
		}
		for i := range tb.Len() {
			s := tb.Span(i)
			if s.End-s.Start <= smallNode {
				if !add(i, s.Start, s.End, false, false) {
					return
				}
				continue
			}
			if !add(i, s.Start, s.Start+headGuess, true, false) || !add(i, s.End-tailGuess, s.End, false, true) {
				return
			}
		}
		if r.end > 0 {
			yield(r)
		}
	}
}

// hint tells of the first runs of a directory, until they are spread over as
// many chunks as said, and returns how many those are, about.
func (t *Tree) hint(tb *catar.Table, most int) (n int) {
	if t.opt.Want == nil {
		return 0
	}
	from := int64(-chunk)
	for r := range runs(tb) {
		if r.end > from+chunk {
			if n == most {
				break
			}
			n, from = n+1, r.off
		}
		t.opt.Want(r.off, r.end-r.off)
	}
	return n
}
