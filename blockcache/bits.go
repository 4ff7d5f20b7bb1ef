package blockcache

import (
	"encoding/binary"
	"sync/atomic"
)

// bits is a set of numbers that many goroutines use. Those asked for lie in it.
type bits []atomic.Uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) has(i int) bool { return b[i/64].Load()&(1<<(i%64)) != 0 }

// set puts i in, and reports whether it was not in.
func (b bits) set(i int) bool {
	bit := uint64(1) << (i % 64)
	return b[i/64].Or(bit)&bit == 0
}

// clear takes i out, and reports whether it was in.
func (b bits) clear(i int) bool {
	bit := uint64(1) << (i % 64)
	return b[i/64].And(^bit)&bit != 0
}

// load puts in the numbers below n whose bits are set in raw, the lowest bit of
// the first byte being that of 0.
func (b bits) load(raw []byte, n int) {
	raw = append(raw, make([]byte, 8)...) // the last word may be cut
	for i := range b {
		b[i].Store(binary.LittleEndian.Uint64(raw[8*i:]))
	}
	if rest := n % 64; rest > 0 {
		b[len(b)-1].And(1<<rest - 1)
	}
}
