package prefetch

import (
	"slices"

	"caravel/blockcache"
)

const (
	skips = 4    // steps of a strided stream that may be missing or out of order
	page  = 4096 // the least that kernels read
)

// A stride is a stream of reads at the same distance.
type stride struct {
	off    int64 // of the foremost read
	step   int64 // from one read to the next; negative: backwards
	size   int64 // of a read
	cost   int64 // bytes that a step fetches
	count  int64 // steps so far; window counts in steps times cost
	window window
	stamp  int64 // of strides.clock, when last read; 0: the slot is free
}

// strides are those last read, and the reads among which new ones are looked
// for: those that belong to no stream.
type strides struct {
	all    [4]stride
	starts []int64 // the last ones, oldest first
	clock  int64
	open   int
}

// find returns the stream that a read belongs to and by how many steps it
// takes it on; none if the read was expected earlier.
func (ss *strides) find(rd read) (s *stride, steps int64) {
	for i := range ss.all {
		s := &ss.all[i]
		if s.stamp == 0 || (rd.off-s.off)%s.step != 0 {
			continue
		}
		if steps := (rd.off - s.off) / s.step; steps >= -skips && steps <= skips {
			ss.clock++
			s.stamp = ss.clock
			return s, steps
		}
	}
	return nil, 0
}

// detect notes a read and reports whether it is the fourth of a stream, and of
// which.
func (ss *strides) detect(rd read, l *limit) (s stride, ok bool) {
	for _, before := range ss.starts {
		step := rd.off - before
		if step != 0 && slices.Contains(ss.starts, before-step) && slices.Contains(ss.starts, before-2*step) {
			s = stride{off: rd.off, step: step, size: rd.len()}
			s.cost = min(max(s.size, l.chunk), max(step, -step))
			ok = true
			break
		}
	}
	if len(ss.starts) == reorder {
		ss.starts = slices.Delete(ss.starts, 0, 1)
	}
	ss.starts = append(ss.starts, rd.off)
	return s, ok
}

// begin keeps a stream, and returns what the one that had to make way has not
// read.
func (ss *strides) begin(s stride, l *limit) (slot *stride, unread int64) {
	slot = &ss.all[0]
	for i := range ss.all {
		if ss.all[i].stamp < slot.stamp {
			slot = &ss.all[i]
		}
	}
	unread = ss.drop(slot, l)
	ss.open++
	ss.clock++
	s.stamp = ss.clock
	s.window.open(0, s.cost, l)
	*slot = s
	return slot, unread
}

// drop frees a slot and returns what its stream, if there is one, has not read.
func (ss *strides) drop(s *stride, l *limit) (unread int64) {
	if s.stamp > 0 {
		unread = s.window.end(s.count*s.cost, l)
		ss.open--
	}
	*s = stride{}
	return unread
}

// close frees all slots and returns what their streams have not read.
func (ss *strides) close(l *limit) (unread int64) {
	for i := range ss.all {
		unread += ss.drop(&ss.all[i], l)
	}
	ss.starts = nil
	return unread
}

// hints are the ranges of the steps from first to last, the nearest first. Steps
// that are smaller than a page are put together: one of a byte would make
// millions.
func (s *stride) hints(first, last int64) []blockcache.Range {
	together := max(page/max(s.step, -s.step), 1)
	hints := make([]blockcache.Range, 0, (last-first)/together+1)
	for n := first; n <= last; n += together {
		off := s.off + (n-s.count)*s.step
		end := s.off + (min(n+together-1, last)-s.count)*s.step
		hints = append(hints, blockcache.Range{Off: min(off, end), Len: max(off, end) - min(off, end) + s.size})
	}
	return hints
}

// end is the position of the last step inside the image.
func (s *stride) end(size int64) int64 {
	steps := s.off / -s.step
	if s.step > 0 {
		steps = (size - 1 - s.off) / s.step
	}
	return (s.count + steps) * s.cost
}
