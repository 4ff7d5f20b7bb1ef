package blockcache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"caravel/index"
)

// errCut is why a file that somebody has shortened is given up.
var errCut = errors.New("it was shortened while it was in use")

// read fills p with the bytes at off of the image, which lie in one chunk and in
// the file. It reports false if they are not there.
//
// If the file was shortened, and then made longer by what we have written since,
// there are zeros in between. So its end is looked at behind each read; and since
// the chunk that ends the file makes it whole again, nothing is read from it while
// that is written, and what was there before is looked at then (writeLast).
func (f *File) read(row int, p []byte, off int64) bool {
	turn := f.turn.Load()
	if !f.has(row) || turn&1 != 0 {
		return false
	}
	if n, err := f.seen.ReadAt(p, off-f.opt.Off); n < len(p) {
		f.unreadable(row-f.first, err)
		return false
	}
	if !f.whole() {
		_ = f.giveUp(errCut)
		return false
	}
	return f.turn.Load() == turn
}

// unreadable notes what kept a chunk from being read.
func (f *File) unreadable(r int, err error) {
	switch {
	case errors.Is(err, os.ErrClosed):
	case err == io.EOF:
		_ = f.giveUp(errCut)
	default: // a bad block of the disk: it may be better when it was written anew
		f.drop(r)
	}
}

// whole reports whether the file has its full length.
func (f *File) whole() bool {
	var last [1]byte
	if f.opt.Size == 0 {
		return true
	}
	n, _ := f.seen.ReadAt(last[:], f.opt.Size-1)
	return n == 1
}

// recall hands to use the bytes of a chunk that waits to be written, or that may
// be there since an earlier run: of that it makes sure. It reports false if it
// has neither.
func (f *File) recall(row int, use func(plain []byte)) bool {
	if c, plain, ok := f.queued(row); ok {
		use(plain)
		c.Release()
		return true
	}
	return f.verify(row, use)
}

// sure makes sure of a chunk that the map says is there, and believes it then.
func (f *File) sure(row int) bool {
	if !f.verify(row, func([]byte) {}) || f.has(row) {
		return f.has(row)
	}
	f.last.Lock() // the chunk that ends the file came between
	defer f.last.Unlock()
	return f.verify(row, func([]byte) {}) && f.has(row)
}

// verify makes sure of a chunk that the map says is there, and hands its bytes
// to use.
func (f *File) verify(row int, use func(plain []byte)) bool {
	r, turn := row-f.first, f.turn.Load()
	if !f.claimed.has(r) && !f.believed.has(r) || f.ended.Load() {
		return false
	}
	c := f.index.Chunk(row)
	buf := newScratch(c.Size)
	defer scratch.Put(buf)
	plain := (*buf)[:c.Size]
	if err := f.load(c, plain); err != nil {
		f.unreadable(r, err)
		return false
	}
	if f.index.Digest().Sum(plain) != c.ID {
		f.drop(r)
		return false
	}
	use(plain)
	if turn&1 == 0 && f.turn.Load() == turn {
		f.believe(r)
	}
	return true
}

// load reads a chunk, of which ends may lie outside of the file.
func (f *File) load(c index.Chunk, p []byte) error {
	start, end := f.inside(c)
	for _, part := range []struct {
		from io.ReaderAt
		p    []byte
		off  int64
	}{
		{f.chart.file, p[:start-c.Start], f.chart.headAt()},
		{f.seen, p[start-c.Start : end-c.Start], start - f.opt.Off},
		{f.chart.file, p[end-c.Start:], f.chart.tailAt()},
	} {
		n, err := part.from.ReadAt(part.p, part.off)
		if n == len(part.p) {
			continue
		}
		if err == io.EOF && part.from == io.ReaderAt(f.chart.file) {
			err = fmt.Errorf("%s: %w", f.chart.file.Name(), io.ErrUnexpectedEOF)
		}
		return err
	}
	return nil
}

// drop notes that the map says of a chunk that it is there, and it is not.
func (f *File) drop(r int) {
	f.doubt(r)
	if f.claimed.clear(r) {
		f.note(nil, []int{r}, 0)
	}
}

// scratch has room for chunks that are verified.
var scratch sync.Pool

func newScratch(n int) *[]byte {
	if b, ok := scratch.Get().(*[]byte); ok && cap(*b) >= n {
		return b
	}
	b := make([]byte, n)
	return &b
}
