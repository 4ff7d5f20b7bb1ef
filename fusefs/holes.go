//go:build linux

package fusefs

import (
	"iter"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Holes yields offset and length of runs of zeros that touch the n bytes at off of a
// stream, in order, as far as it is known that they are; it does not wait. The same
// runs are the holes of a file that lies there.
type Holes func(off, n int64) iter.Seq2[int64, int64]

// leastSparse is the size of a file that may have holes: that of a chunk of zeros.
const leastSparse = 64 << 10

// within yields the holes of the n bytes at off, and nothing of what lies beyond.
func (h Holes) within(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		if h == nil || n < leastSparse {
			return
		}
		for at, length := range h(off, n) {
			from, to := max(at, off), min(at+length, off+n)
			if from < to && !yield(from, to-from) {
				return
			}
		}
	}
}

// blocks is the number of units of 512 bytes that a file of size bytes at off takes.
func (h Holes) blocks(off, size int64) uint64 {
	stored := size
	for _, n := range h.within(off, size) {
		stored -= n
	}
	return (uint64(stored) + 511) / 512
}

// seek is where in a file of size bytes at off the next data is, or the next hole,
// from at on: lseek(2).
func (h Holes) seek(off, size, at int64, whence uint32) (int64, fuse.Status) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, fuse.EINVAL
	}
	if at < 0 || at >= size {
		return 0, fuse.Status(unix.ENXIO)
	}
	for from, n := range h.within(off, size) {
		from -= off
		switch {
		case from+n <= at:
			continue
		case whence == unix.SEEK_HOLE:
			return max(at, from), fuse.OK
		case at < from:
			return at, fuse.OK
		}
		at = from + n
	}
	if whence == unix.SEEK_HOLE {
		return size, fuse.OK
	}
	if at >= size {
		return 0, fuse.Status(unix.ENXIO)
	}
	return at, fuse.OK
}
