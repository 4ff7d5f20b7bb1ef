package chunker

import (
	"bytes"
	"math/bits"
)

// A Cutter finds the cuts in bytes that are in memory. It is not changed by
// that and may be used by many goroutines.
type Cutter struct {
	first, max int    // sizes of a chunk at which a cut is looked for, and made
	reciprocal uint64 // of the discriminator; see hit
	in, out    [256]uint32
	wide       constants
	exact      bool // the wide registers find nothing but hits
}

// constants are what mark needs of a discriminator, and to tell apart the 32 parts of a
// table: h+1 is a multiple of d, of which inverse is that of the odd part, if their product
// rotated to the right, by as many bits as d has factors of two, is at most limit.
type constants struct {
	inverse, rotation, limit uint32
	bits                     [3]uint32
}

// NewCutter returns a Cutter for p, which must be Cuttable.
func NewCutter(p Params) (*Cutter, error) {
	if err := p.Cuttable(); err != nil {
		return nil, err
	}
	c := &Cutter{first: max(p.Min, window), max: p.Max, in: table}
	if p.Fixed() {
		c.first = c.max
	}
	for i, v := range table {
		c.out[i] = bits.RotateLeft32(v, window)
	}
	// ⌈2^64/d⌉, which for d = 1 is 0: then hit holds for every h, as it must.
	d := uint32(p.discriminator())
	c.reciprocal = ^uint64(0)/uint64(d) + 1
	c.wide, c.exact = wideConstants(d), bits.OnesCount32(d) == 1
	return c, nil
}

// wideConstants are those of d. In 32 bits h+1 is 0 for the largest h, which passes for a
// multiple of any d, though 2^32 is one only of powers of two.
func wideConstants(d uint32) constants {
	twos := bits.TrailingZeros32(d)
	odd := d >> twos
	inverse := odd // of its lowest three bits; each step doubles how many there are
	for range 4 {
		inverse *= 2 - odd*inverse
	}
	return constants{inverse, uint32(twos), ^uint32(0) / d, [3]uint32{1 << 5, 1 << 6, 1 << 7}}
}

// hashOf is the hash of the window that b begins with.
func hashOf(b []byte) (h uint32) {
	for _, x := range b[:window] {
		h = bits.RotateLeft32(h, 1) ^ table[x]
	}
	return h
}

// discriminator is the d of the rule that a chunk ends where h%d == d-1, which
// makes the chunks of random data as long as the average says.
func (p Params) discriminator() int {
	avg := float64(p.Avg)
	// Without the conversion the compiler may join the multiplication and the
	// addition on some machines, which rounds differently.
	d := avg / (float64(-1.42888852e-7*avg) + 1.33237515)
	if d < 0 || d >= float64(p.Max) { // negative from an average of 9324558 upward
		return p.Max
	}
	return max(int(d), p.Min)
}

// Next returns the length of the chunk that b begins with. b must hold the
// maximum size, or else all that is left of the stream. It is 0 only for an
// empty b.
func (c *Cutter) Next(b []byte) int {
	b = b[:min(len(b), c.max)]
	if len(b) <= c.first {
		return len(b)
	}
	skip := c.first - window
	return skip + c.find(b[skip:])
}

// runSize is how many bytes are looked at together for a run of one value.
const runSize = 1024

// find returns the end of the first window in b whose hash marks a cut, or
// len(b) if there is none. Which windows do depends on their bytes alone, so
// parts of a stream that overlap by a window can be searched in any order.
func (c *Cutter) find(b []byte) int {
	if wide && len(b) >= findSize {
		return c.findWide(b)
	}
	h := hashOf(b)
	if hit(h, c.reciprocal) {
		return window
	}
	for at := window; at < len(b); {
		end := min(at+runSize, len(b))
		if sameBytes(b[at-window : end]) {
			at = end // every window in there has the hash h
			continue
		}
		n, found := 0, false
		if n, h, found = c.roll(h, b[at:end], b[at-window:]); found {
			return at + n
		}
		at = end
	}
	return len(b)
}

// findSize is how many bytes are looked at together, in wide registers, where the first mark
// is the last one that is wanted.
const findSize = 4 << 10

// findWide is find with wide registers.
func (c *Cutter) findWide(b []byte) int {
	var found [findSize / 64]uint64
	for at := 0; ; at += findSize - window + 1 {
		part := b[at:min(at+findSize, len(b))]
		if len(part) < findSize { // the rest, together with what was seen already
			at = len(b) - findSize
			part = b[at:]
		}
		if !sameBytes(part) {
			for i, w := range c.look(found[:], part, findSize/16) {
				for ; w != 0; w &= w - 1 {
					end := 64*i + bits.TrailingZeros64(w) + 1
					if c.exact || hit(hashOf(part[end-window:]), c.reciprocal) {
						return at + end
					}
				}
			}
		} else if hit(hashOf(part), c.reciprocal) {
			return at + window
		}
		if at+findSize == len(b) {
			return len(b)
		}
	}
}

// hit reports whether h%d == d-1, that is, whether d divides h+1, for the
// reciprocal m = ⌈2^64/d⌉. (h+1)*m is less than m, modulo 2^64, exactly for the
// multiples of d: the error of m, which is below d/2^64, adds up to less than m
// over a quotient of at most 2^32/d. d ≤ 2^27 leaves room to spare, also for
// h+1 = 2^32.
func hit(h uint32, m uint64) bool { return (uint64(h)+1)*m <= m-1 }

// roll moves the window, whose hash is h, over all of in; out begins with what
// leaves it. It stops at the first hit, n bytes on. The loop has no bounds
// check, and the two table values meet before they meet h: only a rotation and
// an exclusive or wait for the byte before. Inlined into find it runs out of
// registers and is a sixth slower.
//
//go:noinline
func (c *Cutter) roll(h uint32, in, out []byte) (n int, next uint32, found bool) {
	m := c.reciprocal
	out = out[:len(in)]
	for i, x := range in {
		h = bits.RotateLeft32(h, 1) ^ (c.out[out[i]] ^ c.in[x])
		if hit(h, m) {
			return i + 1, h, true
		}
	}
	return len(in), h, false
}

// sameBytes reports whether all bytes of b are the same.
func sameBytes(b []byte) bool {
	last := len(b) - 1
	return b[0] == b[last] && bytes.Equal(b[1:], b[:last])
}

// End finds the end of the chunk of which size bytes lie before b[from], b being the
// segment of n bytes that m marks: ended is false if that is not in there.
func (c *Cutter) End(m Marks, from, n, size int) (end int, ended bool) {
	most := from + c.max - size
	end = m.next(from+max(c.first-size, 1)-1, min(n, most))
	switch {
	case end < min(n, most):
		return end + 1, true
	case most <= n:
		return most, true
	}
	return n, false
}

// zeros is how many zeros a chunk takes to its end, if size bytes of it are there already, the
// last 47 of which are zeros, too.
func (c *Cutter) zeros(size int) int {
	if c.first < c.max && hit(hashOf(make([]byte, window)), c.reciprocal) {
		return max(c.first-size, 1)
	}
	return c.max - size
}
