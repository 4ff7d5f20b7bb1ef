package prefetch

import "caravel/blockcache"

// A window says how far ahead of a stream chunks are asked for. Its positions
// grow in the direction of the stream: offsets for a sequential stream, steps
// times what a step costs for a strided one.
type window struct {
	size  int64 // bytes ahead
	asked int64 // all before it was asked for
	mark  int64 // what lies before it was asked for by a smaller window
	used  int64 // bytes that were asked for, and read
}

// A limit is how far the windows of a group of readers may grow.
type limit struct {
	chunk int64 // the smallest window
	now   int64
	most  int64 // what now may grow to

	used, left int64 // bytes that the last streams had asked for when they ended: read, and not
}

const (
	// A stream proves that the windows may be larger when it has used the largest
	// one so many times. With 4, streams of a few hundred KiB on a disk make 22 %
	// of what they fetch useless, with 8 they take a sixth longer.
	limitProof = 6

	// Streams are forgotten by and by when more recent ones had asked for this.
	limitMemory = 32 << 20
)

// open starts the window of a stream that has arrived at pos in reads of n
// bytes.
func (w *window) open(pos, n int64, l *limit) {
	size := min(max(l.chunk, n), max(l.now, l.chunk))
	*w = window{size: size, asked: pos, mark: pos}
}

// advance notes that the stream went on from pos to next, and what the state
// of the last chunk of that read was. It returns the bytes read that had been
// asked for.
func (w *window) advance(pos, next int64, state blockcache.State, l *limit) (used int64) {
	used = max(min(next, w.front())-pos, 0)
	w.used += used
	if next <= w.mark {
		return used // what the window was before tells nothing of what it is
	}
	switch state {
	case blockcache.Absent:
		l.grow(w)
		w.size = min(2*w.size, l.now)
	case blockcache.Lost:
		w.size = max(w.size/2, l.chunk)
	default:
		return used
	}
	// What the memory had no room for is asked for again; the rest is ignored.
	w.mark, w.asked = max(w.front(), next), next
	return used
}

// front is the end of all that was ever asked for.
func (w *window) front() int64 { return max(w.asked, w.mark) }

// extend returns the part before end that is to be asked for now, which may be
// empty: less than a chunk is not worth a hint.
func (w *window) extend(pos, end, chunk int64) (from, to int64) {
	from, to = max(w.asked, pos), min(pos+w.size, end)
	if to <= from || to-from < chunk && to < end {
		return from, from
	}
	w.asked = to
	return from, to
}

// end lowers the limit if more of the window is left unread at pos than was
// used, or if too much was left by the streams lately. It returns what is left.
func (w *window) end(pos int64, l *limit) (unread int64) {
	unread = max(w.front()-pos, 0)
	l.used, l.left = l.used+w.used, l.left+unread
	if unread > w.used || unread > 0 && l.left > l.used/8 {
		l.now = max(l.now/2, l.chunk)
	}
	if l.used+l.left > limitMemory {
		l.used, l.left = l.used/2, l.left/2
	}
	return unread
}

// grow raises the limit for a window that has been there for a while.
func (l *limit) grow(w *window) {
	if w.size >= l.now && w.used >= limitProof*l.now {
		l.now = min(2*l.now, l.most)
	}
}
