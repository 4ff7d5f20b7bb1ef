// Package chunker cuts streams into chunks and names them, exactly as casync
// does (docs/formats.md, section 1).
//
// Where to cut is decided by the content: a hash of the last 48 bytes (the
// window) is rolled along, and where it takes one of a rare set of values a
// chunk ends. So the chunks before and after a change stay the same. [Params]
// are the sizes between which the cuts lie, an [ID] is the digest of a chunk's
// bytes, a [Digest] the algorithm.
//
//	for chunk, err := range chunker.Chunks(r, chunker.DefaultParams()) {
//		if err != nil {
//			return err
//		}
//		id := chunker.SHA512_256.Sum(chunk)
//		…
//	}
//
// [Chunks] reads a stream, [Split] does on all cores and knows of holes; a [Cutter] works on
// bytes that are in memory.
//
// # Speed
//
// Ratios to the loop as the format describes it (two table lookups, a rotation
// each, h%d == d-1 at every byte), random data, x86-64; BenchmarkNext has the
// first line and the last:
//
//	1.0   plain remainder; no gain from rotating the leaving byte's table beforehand
//	1.6   a multiplication by the inverse of d's odd part in 32 bits, rotated for even d
//	1.8   the odd part alone, whatever passes checked in full; in a function of its own
//	1.9   a multiplication by a reciprocal of d in 64 bits, which needs no second check
//	2.6   the same, with the two table values combined before they meet the hash
//	4.8   16 windows together in AVX-512 registers, the table in them too
//
// The last one, where the processor can, has no chain at all: of the hashes of single bytes it
// makes those of 2, 4, 8 and 16 bytes, each from two of the former, and of three of these the
// window's (in 32 bits to rotate by 32 is nothing). It takes a quarter of the time that it
// takes to read the bytes from the page cache. The one before takes two cycles for a byte, the length of the hash's chain of
// dependencies (a rotation and an exclusive or). Unrolled by eight with loads of
// 64 bits it is at 2.2, inlined into its caller as well. Two segments in one
// loop gain a tenth, which does not pay for keeping them in step. A run of one
// byte value leaves the hash as it is and is skipped by comparing memory, 30
// times as fast. After a cut, all up to a window before the minimum is skipped.
package chunker

import (
	"io"
	"iter"
)

// Chunks cuts what r gives, to its end. Each chunk is the caller's to read and
// change until the next step. If r fails, or p cannot be used, the last pair is
// (nil, err) and the bytes since the last chunk are dropped: every chunk that is
// given out is one of the whole stream.
//
// r is asked for much more than one chunk at a time. The memory for it grows
// with the stream, up to twice p.Max or 1 MiB, whichever is more.
func Chunks(r io.Reader, p Params) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		c, err := NewCutter(p)
		if err != nil {
			yield(nil, err)
			return
		}
		in := input{r: r, limit: max(2*p.Max, maxRead)}
		for {
			b, err := in.peek(p.Max)
			if err != nil {
				yield(nil, err)
				return
			}
			n := c.Next(b)
			if n == 0 || !yield(b[:n:n], nil) {
				return
			}
			in.start += n
		}
	}
}

// The buffer that a stream is read into has at first minRead bytes and is
// doubled, whenever the stream filled it, up to maxRead or more.
const (
	minRead = 64 << 10
	maxRead = 1 << 20
)

// maxEmptyReads is how often a reader may return nothing and no error, as in
// bufio.
const maxEmptyReads = 100

// An input is a stream with a look-ahead of any length.
type input struct {
	r          io.Reader
	eof        bool
	buf        []byte // buf[start:end] was read and not yet cut
	start, end int
	limit      int // of len(buf): more than the look-ahead
}

// peek returns the next n bytes or more, or fewer if the stream ends before.
func (in *input) peek(n int) ([]byte, error) {
	empty := 0
	for in.end-in.start < n && !in.eof {
		in.makeRoom(n)
		got, err := in.r.Read(in.buf[in.end:])
		in.end += got
		if err == io.EOF {
			in.eof = true
			break
		}
		if err != nil {
			return nil, err
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return nil, io.ErrNoProgress
		}
	}
	return in.buf[in.start:in.end], nil
}

// makeRoom makes sure that something can be read behind end. The tail is moved
// only when n bytes do not fit in where it lies, so that a reader that gives
// little at a time does not have it moved for each chunk.
func (in *input) makeRoom(n int) {
	if in.end < len(in.buf) && (in.start == 0 || len(in.buf)-in.start >= n) {
		return
	}
	to := in.buf
	if in.end == len(in.buf) && len(in.buf) < in.limit {
		to = make([]byte, min(max(2*len(in.buf), minRead), in.limit))
	}
	in.end = copy(to, in.buf[in.start:in.end])
	in.start, in.buf = 0, to
}
