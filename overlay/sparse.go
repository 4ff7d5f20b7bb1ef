package overlay

import "iter"

// Holes yields offset and length of ranges within the n bytes at off that are
// known to be zeros without reading, in order; they may be adjacent. What the base
// says counts where nothing was written.
func (d *Disk) Holes(off, n int64) iter.Seq2[int64, int64] {
	return d.ranges(off, n, d.holes)
}

// holes is Holes of a run.
func (d *Disk) holes(off, n int64, present bool) iter.Seq2[int64, int64] {
	if !present {
		return d.baseHoles(off, n)
	}
	return func(yield func(int64, int64) bool) {
		data := d.header.dataAt()
		for at, size := range d.file.holes(data+off, n) {
			if !yield(at-data, size) {
				return
			}
		}
	}
}

// Local yields offset and length of ranges within the n bytes at off that can be
// read without the base, or that the base says are local, in order; they may be
// adjacent.
func (d *Disk) Local(off, n int64) iter.Seq2[int64, int64] {
	return d.ranges(off, n, func(off, n int64, present bool) iter.Seq2[int64, int64] {
		if present {
			return one(off, n)
		}
		if d.base.local == nil {
			return d.behind(nil, off, n)
		}
		return d.behind(d.base.local.Local, off, n)
	})
}

// Want hands on to the base that the n bytes at off will be read, as far as they
// were not written.
func (d *Disk) Want(off, n int64) {
	if d.base.wanter == nil {
		return
	}
	for at, size := range d.ranges(off, n, func(off, n int64, present bool) iter.Seq2[int64, int64] {
		if present {
			return one(off, 0)
		}
		return one(off, min(n, d.base.size-off))
	}) {
		d.base.wanter.Want(at, size)
	}
}

// untouched yields ranges within the n bytes at off, in order and not adjacent,
// that were not written and are zeros in the base. They begin and end with blocks,
// or with the n bytes.
func (d *Disk) untouched(off, n int64) iter.Seq2[int64, int64] {
	block, end := d.header.block, off+n
	known := d.ranges(off, n, func(off, n int64, present bool) iter.Seq2[int64, int64] {
		if present {
			return one(off, 0)
		}
		return d.baseHoles(off, n)
	})
	return func(yield func(int64, int64) bool) {
		for at, size := range joined(known) {
			stop := at + size
			if at > off {
				at = (at + block - 1) / block * block
			}
			if stop < end {
				stop = stop / block * block
			}
			if at < stop && !yield(at, stop-at) {
				return
			}
		}
	}
}

// ranges yields what of gives for each run of the n bytes at off, in order. What
// lies outside of the disk is left out; so is the rest, where a map cannot be
// read.
func (d *Disk) ranges(off, n int64, of func(off, n int64, present bool) iter.Seq2[int64, int64]) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		if off < 0 {
			off, n = 0, off+n
		}
		end := d.header.size
		if n < end-off { // without an overflow
			end = off + n
		}
		for at := off; at < end; {
			present, same, err := d.run(at, end-at)
			if err != nil {
				return
			}
			for from, size := range of(at, same, present) {
				if size > 0 && !yield(from, size) {
					return
				}
			}
			at += same
		}
	}
}

// baseHoles yields the holes of the base within the n bytes at off, and what lies
// behind it.
func (d *Disk) baseHoles(off, n int64) iter.Seq2[int64, int64] {
	if d.base.sparse == nil {
		return d.behind(nil, off, n)
	}
	return d.behind(d.base.sparse.Holes, off, n)
}

// behind yields what said says of the n bytes at off, as far as it is true of
// them, and what lies behind the base.
func (d *Disk) behind(said func(off, n int64) iter.Seq2[int64, int64], off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		end := off + n
		inside := min(end, d.base.size)
		if said != nil && off < inside {
			at := off
			for from, size := range said(off, inside-off) {
				if from < 0 || from >= inside || size <= 0 {
					continue
				}
				stop := from + min(size, inside-from)
				from = max(from, at)
				if from < stop {
					at = stop
					if !yield(from, stop-from) {
						return
					}
				}
			}
		}
		if from := max(off, inside); from < end {
			yield(from, end-from)
		}
	}
}

// one yields one range.
func one(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) { yield(off, n) }
}

// joined makes one of ranges that adjoin.
func joined(ranges iter.Seq2[int64, int64]) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		var start, end int64
		for at, size := range ranges {
			if at == end && end > start {
				end += size
				continue
			}
			if end > start && !yield(start, end-start) {
				return
			}
			start, end = at, at+size
		}
		if end > start {
			yield(start, end-start)
		}
	}
}
