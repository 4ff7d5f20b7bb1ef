package index

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"

	"caravel/chunker"
	"caravel/feature"
)

// Read reads an index file to its end and checks all of it. size is the file's
// length, or -1 if that is not known. Memory grows with the rows that arrive,
// whatever size and the file itself claim.
func Read(r io.Reader, size int64) (*Index, error) {
	d := &decoder{r: bufio.NewReaderSize(r, blockSize), rows: math.MaxInt64}
	x, err := d.header()
	if err != nil {
		return nil, err
	}
	if size >= 0 {
		const frame = headerSize + tailSize
		if size < frame || (size-frame)%rowSize != 0 {
			return nil, fmt.Errorf("index: %d bytes long, not %d and %d for each chunk", size, frame, rowSize)
		}
		d.rows = (size - frame) / rowSize
	}
	if x.rows, err = d.table(x.Params.Max); err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if size >= 0 && d.off != size {
		return nil, fmt.Errorf("index: offset %d: end of the file, not at %d", d.off, size)
	}
	return x, nil
}

// A decoder reads one file from front to back.
type decoder struct {
	r    *bufio.Reader
	off  int64 // of the next byte
	rows int64 // how many the file's length has room for
}

func (d *decoder) header() (*Index, error) {
	b, err := d.next(headerSize, "header")
	if err != nil {
		return nil, err
	}
	if u64(b, 0) != indexSize && u64(b, 1) != indexType {
		return nil, errors.New("index: offset 0: not an index (want a .caibx or .caidx file)")
	}
	if err := expect(b, 0, "header", indexSize, indexType); err != nil {
		return nil, err
	}
	if err := expect(b[indexSize:], indexSize, "head of the table", tableSize, tableType); err != nil {
		return nil, err
	}
	for i := 3; i < 6; i++ { // before they become ints
		if v := u64(b, i); v > chunker.MaxSize {
			return nil, fmt.Errorf("index: offset %d: chunk size %d is above %d", 8*i, v, chunker.MaxSize)
		}
	}
	x := &Index{
		Flags:  feature.Flags(u64(b, 2)),
		Params: chunker.Params{Min: int(u64(b, 3)), Avg: int(u64(b, 4)), Max: int(u64(b, 5))},
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	return x, nil
}

// table reads the rows and the tail.
func (d *decoder) table(maxSize int) ([]row, error) {
	var rows []row
	var start uint64
	for {
		off := d.off
		b, err := d.next(rowSize, "table")
		if err != nil {
			return nil, err
		}
		end := u64(b, 0)
		// No chunk ends at 0, so two zeros can only be meant to be the tail.
		if int64(len(rows)) == d.rows || end == 0 && u64(b, 1) == 0 {
			return rows, expect(b, off, "tail", 0, 0, indexSize, tableBytes(len(rows)), tailMark)
		}
		switch {
		case end > math.MaxInt64:
			return nil, fmt.Errorf("index: offset %d: chunk %d ends at %d, beyond 2^63-1", off, len(rows), end)
		case end <= start:
			return nil, fmt.Errorf("index: offset %d: chunk %d ends at %d, not after %d", off, len(rows), end, start)
		case end-start > uint64(maxSize):
			return nil, fmt.Errorf("index: offset %d: chunk %d has %d bytes, above the maximum of %d", off, len(rows), end-start, maxSize)
		}
		if len(rows) == cap(rows) {
			rows = d.grow(rows)
		}
		rows = append(rows, row{int64(end), chunker.ID(b[8:])})
		start = end
	}
}

// grow doubles the room for rows, or makes it what the file's length has room
// for once that is within reach.
func (d *decoder) grow(rows []row) []row {
	room := 2*int64(len(rows)) + 1024
	if d.rows <= 2*room {
		room = d.rows
	}
	return append(make([]row, 0, room), rows...)
}

// end makes sure that nothing follows.
func (d *decoder) end() error {
	switch _, err := d.r.Peek(1); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("index: offset %d: bytes after the tail", d.off)
	default:
		return fmt.Errorf("index: offset %d: %w", d.off, err)
	}
}

// next returns n bytes, which are valid until the following call; part is where
// they belong to.
func (d *decoder) next(n int, part string) ([]byte, error) {
	b, err := d.r.Peek(n)
	switch err {
	case nil:
		d.off += int64(n)
		_, err = d.r.Discard(n)
		return b, err
	case io.EOF:
		return nil, fmt.Errorf("index: offset %d: truncated in the %s", d.off+int64(len(b)), part)
	default:
		return nil, fmt.Errorf("index: offset %d: %w", d.off+int64(len(b)), err)
	}
}

// expect checks that b, which lies at off, begins with the numbers of want.
func expect(b []byte, off int64, part string, want ...uint64) error {
	for i, w := range want {
		if got := u64(b, i); got != w {
			return fmt.Errorf("index: offset %d: %s has %#x, not %#x", off+int64(8*i), part, got, w)
		}
	}
	return nil
}
