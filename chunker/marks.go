package chunker

import "math/bits"

// Marks say of each byte of a segment whether a chunk may end behind it: bit i%64 of
// word i/64 is for byte i. Which of those become cuts depends on where the chunk began,
// and is for [Cutter.End].
type Marks []uint64

// NewMarks returns the marks for segments of up to n bytes.
func NewMarks(n int) Marks { return make(Marks, (n+63)/64) }

func (m Marks) set(i int) { m[i/64] |= 1 << (i % 64) }

// fill sets the marks from i to end, both within m.
func (m Marks) fill(i, end int) {
	for ; i < end && i%64 != 0; i++ {
		m.set(i)
	}
	for ; i+64 <= end; i += 64 {
		m[i/64] = ^uint64(0)
	}
	for ; i < end; i++ {
		m.set(i)
	}
}

// next returns the first mark from i on and before end, or end.
func (m Marks) next(i, end int) int {
	if i >= end {
		return end
	}
	w := m[i/64] &^ (1<<(i%64) - 1)
	for at := i / 64; ; w = m[at] {
		if w != 0 {
			return min(64*at+bits.TrailingZeros64(w), end)
		}
		if at++; 64*at >= end {
			return end
		}
	}
}

// Mark sets the marks of b, all of those that m has. Those of the first 47 bytes, whose
// windows begin before b, are not set: who looks through a stream in segments lets each
// begin that much earlier than the last one ended. Segments may be marked in any order, and
// at one time.
func (c *Cutter) Mark(m Marks, b []byte) {
	clear(m)
	if c.first == c.max { // the maximum alone decides, except of a chunk of just that size, which it ends, too
		return
	}
	if !wide || len(b) < 2*tail {
		c.markRolling(m, b)
		return
	}
	for at := 0; ; {
		// A run of one value is looked through faster than by its hashes.
		end := min(at+passSize, len(b))
		if end == len(b) || !sameBytes(b[at:end]) {
			at = c.pass(m, b, at, end)
		} else {
			if hit(hashOf(b[at:]), c.reciprocal) {
				m.fill(at+window-1, end)
			}
			at = end - window + 1
		}
		if end == len(b) {
			return
		}
	}
}

const (
	passSize = 16 << 10 // bytes that are marked together
	tail     = 64       // bytes at the end that are marked once more, since blocks are whole
)

// pass sets the marks of the windows that lie in b from at to end, and returns where the first
// window begins that does not.
func (c *Cutter) pass(m Marks, b []byte, at, end int) int {
	var found [passSize / 64]uint64
	blocks := (end - at) / 16
	c.take(m, b, at, c.look(found[:], b[at:], blocks))
	if end-at > 16*blocks {
		c.take(m, b, end-tail, c.look(found[:], b[end-tail:], tail/16))
	}
	return end - window + 1
}

// look marks blocks of b in found, and returns what of that is set.
func (c *Cutter) look(found []uint64, b []byte, blocks int) []uint64 {
	found = found[:(blocks+3)/4]
	found[len(found)-1] = 0 // all of it, which the blocks may not fill
	mark(&found[0], &b[0], blocks, &c.wide)
	found[0] &^= 1<<(window-1) - 1 // what is no whole window
	return found
}

// take sets the marks that were found from b[at] on.
func (c *Cutter) take(m Marks, b []byte, at int, found []uint64) {
	for i, w := range found {
		for ; w != 0; w &= w - 1 {
			end := at + 64*i + bits.TrailingZeros64(w)
			if c.exact || hit(hashOf(b[end+1-window:]), c.reciprocal) {
				m.set(end)
			}
		}
	}
}

// markRolling is Mark without wide registers.
func (c *Cutter) markRolling(m Marks, b []byte) {
	if len(b) < window {
		return
	}
	h := hashOf(b)
	if hit(h, c.reciprocal) {
		m.set(window - 1)
	}
	for at := window; at < len(b); {
		end := min(at+runSize, len(b))
		if sameBytes(b[at-window : end]) { // every window in there has the hash h
			if hit(h, c.reciprocal) {
				m.fill(at, end)
			}
			at = end
			continue
		}
		for at < end {
			n, next, found := c.roll(h, b[at:end], b[at-window:])
			if at, h = at+n, next; found {
				m.set(at - 1)
			}
		}
	}
}
