package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/feature"
)

// A RangeReader reads an index file at any offset, by the rules of io.ReaderAt;
// all of its answers are of one version of the file. Its methods may be called
// from many goroutines.
type RangeReader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Size() int64
}

// A Remote is an index whose rows come by ranges, from where somebody looks,
// while [Remote.Fill] brings all of them in the background: the index of an
// image of 1 TiB has 640 MB.
//
// The offsets of chunks that were cut from data grow almost evenly, so that the
// block of rows in which one lies can be guessed: over 16 million rows the guess
// is 1,400 rows off, which is within the block, or in the next one.
//
// Until Fill has returned, no row is known to be what the author of the index
// wrote; the chunks, of which nothing is believed but what has their digest, may
// be others than the image's. Each row is checked to be one that an index may
// have, there, beside all others that have come. A row that is not, or a
// header, makes every later call fail: nothing of this file may be believed. An
// error of reading concerns who has asked, and the next one tries again.
type Remote struct {
	r      RangeReader
	flags  feature.Flags
	params chunker.Params
	n      int   // rows
	size   int64 // of the stream

	whole atomic.Pointer[Index] // nil until Fill is done

	mu      sync.Mutex
	bad     error           // what is wrong with the file; guarded by mu
	known   []stretch       // in order, the first and the last block at least; guarded by mu
	flights map[int]*flight // blocks under way, by number; guarded by mu

	filling chan struct{} // holds one while somebody fills
}

// ErrSpoilt is matched by what the methods of a Remote return once something has
// come that no index may have. Any other error is one of reading.
var ErrSpoilt = errors.New("index: not to be believed")

type spoilt struct{ error }

func (s spoilt) Is(target error) bool { return target == ErrSpoilt }
func (s spoilt) Unwrap() error        { return s.error }

// blockRows is in how many rows a Remote divides the table: 256 KiB, 2 ms of a
// link of 1 Gbit/s.
const blockRows = blockSize / rowSize

// maxRows is how many a Remote may have: it costs nothing to say that there are
// many, and whoever keeps a bit for each row believes it. An image of 64 TiB has
// as many, and an index of 40 GiB.
const maxRows = 1 << 30

// A stretch is some rows that follow each other, whole blocks of them.
type stretch struct {
	first int   // number of the first row
	start int64 // where its chunk begins
	rows  []row
}

func (s stretch) end() int      { return s.first + len(s.rows) }
func (s stretch) endOff() int64 { return s.rows[len(s.rows)-1].end }

// chunk is row i of the index, which the stretch has.
func (s stretch) chunk(i int) Chunk {
	start := s.start
	if i > s.first {
		start = s.rows[i-s.first-1].end
	}
	r := &s.rows[i-s.first]
	return Chunk{ID: r.id, Start: start, Size: int(r.end - start)}
}

// NewRemote reads the first and the last rows, with the header and the tail, at
// the same time. r must not be closed before the last call of a method of the
// Remote.
func NewRemote(ctx context.Context, r RangeReader) (*Remote, error) {
	rows, err := rowsIn(r.Size())
	if err != nil {
		return nil, err
	}
	if rows > min(maxRows, math.MaxInt/rowSize-blockRows) {
		return nil, fmt.Errorf("index: %d bytes long: more than can be read", r.Size())
	}
	x := &Remote{r: r, n: int(rows), flights: map[int]*flight{}, filling: make(chan struct{}, 1)}
	if x.n <= 2*blockRows {
		return x, x.readAll(ctx)
	}
	return x, x.readEnds(ctx)
}

// readAll reads a file that is not worth being divided.
func (x *Remote) readAll(ctx context.Context) error {
	file, err := x.bytes(ctx, 0, x.r.Size())
	if err != nil {
		return err
	}
	whole, err := Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return err
	}
	x.flags, x.params, x.size = whole.Flags, whole.Params, whole.Size()
	x.whole.Store(whole)
	return nil
}

// readEnds reads the first block and the last one.
func (x *Remote) readEnds(ctx context.Context) error {
	last := (x.n - 1) / blockRows * blockRows
	var front, back []byte
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		front, err = x.bytes(ctx, 0, rowOffset(blockRows))
		return err
	})
	both.Go(func() (err error) {
		back, err = x.bytes(ctx, rowOffset(last-1), x.r.Size())
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	x0, err := readHeader(front)
	if err != nil {
		return err
	}
	x.flags, x.params = x0.Flags, x0.Params
	if err := expect(back[len(back)-tailSize:], rowOffset(x.n), "tail", 0, 0, indexSize, tableBytes(x.n), tailMark); err != nil {
		return err
	}
	head, err := x.parse(0, 0, front[headerSize:])
	if err != nil {
		return err
	}
	tail, err := x.parse(last, u64(back, 0), back[rowSize:len(back)-tailSize])
	if err != nil {
		return err
	}
	x.size = tail.endOff()
	x.known = []stretch{head}
	return x.place(tail)
}

// rowOffset is where row i of a file lies.
func rowOffset(i int) int64 { return headerSize + rowSize*int64(i) }

// bytes reads a part of the file.
func (x *Remote) bytes(ctx context.Context, off, end int64) ([]byte, error) {
	b := make([]byte, end-off)
	return b, x.readInto(ctx, b, off)
}

func (x *Remote) readInto(ctx context.Context, b []byte, off int64) error {
	n, err := x.r.ReadAt(ctx, b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("index: offset %d: %w", off+int64(n), err)
}

// parse checks the rows in b, of which the first is number first and the one
// before it ends at start.
func (x *Remote) parse(first int, start uint64, b []byte) (stretch, error) {
	if start > math.MaxInt64 {
		return stretch{}, fmt.Errorf("index: offset %d: chunk %d ends at %d, beyond 2^63-1", rowOffset(first-1), first-1, start)
	}
	c := rowChecker{n: first, start: start, max: x.params.Max}
	rows := make([]row, len(b)/rowSize)
	if n := c.take(rows, b); n < len(rows) {
		return stretch{}, c.refuse(b[n*rowSize:])
	}
	return stretch{first, int64(start), rows}, nil
}
