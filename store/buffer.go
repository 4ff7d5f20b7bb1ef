package store

import (
	"errors"
	"io"
	"math/bits"
	"sync"
)

// A buffer is memory from the pool; b is what it holds. Its owner frees it
// once, and nobody uses b after that.
type buffer struct {
	b     []byte
	class int // in the pool; -1: too large for it
}

const (
	smallest   = 12 // log2 of the smallest class
	perDouble  = 4  // classes from one power of two to the next: at most a fifth of a buffer is wasted
	classCount = 1 + perDouble*(28-smallest)

	// slack is the room behind the size that was asked for: decoders are
	// faster with some, and one byte of it shows that there would be more.
	slack = 32
)

// buffers keeps what was freed until the next collection of garbage.
var buffers [classCount]sync.Pool

// newBuffer returns a buffer without content that has room for n bytes and
// slack.
func newBuffer(n int) *buffer {
	class, size := sizeClass(n)
	if class >= 0 {
		if b, ok := buffers[class].Get().(*buffer); ok {
			return b
		}
	}
	return &buffer{b: make([]byte, 0, size+slack), class: class}
}

// Buffer is memory for the n bytes of a chunk, from the pool in which those of
// all stores are. free, which may be handed to NewStored, gives it back.
func Buffer(n int) (b []byte, free func()) {
	buf := newBuffer(n)
	buf.b = buf.b[:n]
	return buf.b, buf.free
}

// sizeClass finds the smallest class whose buffers have room for n bytes.
func sizeClass(n int) (class, size int) {
	if n <= 1<<smallest {
		return 0, 1 << smallest
	}
	low := bits.Len(uint(n-1)) - 1 // 1<<low < n ≤ 2<<low
	step := 1 << low / perDouble
	part := (n - 1<<low + step - 1) / step
	class = (low-smallest)*perDouble + part
	if class >= classCount {
		return -1, n
	}
	return class, 1<<low + part*step
}

func (b *buffer) free() {
	if b.class < 0 {
		return
	}
	if poisoned {
		poison(b.b[:cap(b.b)])
	}
	b.b = b.b[:0]
	buffers[b.class].Put(b)
}

// poison makes whoever still reads a freed buffer see nonsense, and the race
// detector see him.
func poison(b []byte) {
	b[0] = 0xdb
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// grow moves the content to a buffer that has room for n bytes.
func (b *buffer) grow(n int) {
	bigger := newBuffer(n)
	bigger.b = append(bigger.b, b.b...)
	*b, *bigger = *bigger, *b
	bigger.free()
}

// Write appends p.
func (b *buffer) Write(p []byte) (int, error) {
	if n := len(b.b) + len(p); n > cap(b.b) {
		b.grow(max(n, 2*cap(b.b)))
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

// errTooLong: there was a byte behind the limit.
var errTooLong = errors.New("too long")

// readAll reads r to its end, but not more than one byte behind limit, into a
// buffer that has room for hint bytes at first.
func readAll(r io.Reader, hint, limit int) (*buffer, error) {
	buf := newBuffer(min(hint, limit))
	for {
		n := len(buf.b)
		if n > limit {
			buf.free()
			return nil, errTooLong
		}
		if n == cap(buf.b) {
			buf.grow(min(2*n, limit))
		}
		got, err := r.Read(buf.b[n:min(cap(buf.b), limit+1)])
		buf.b = buf.b[:n+got]
		if err == io.EOF && len(buf.b) <= limit {
			return buf, nil
		}
		if err != nil && err != io.EOF {
			buf.free()
			return nil, err
		}
	}
}
