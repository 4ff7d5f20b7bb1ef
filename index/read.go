package index

import (
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
	return read(&decoder{r: r, rows: math.MaxInt64, buf: make([]byte, bufferSize(size))}, size)
}

// Follow is Read for an index that arrives while its image is made: each is called
// with every row as soon as that is here. Its error ends the reading.
func Follow(r io.Reader, each func(x *Index, c Chunk) error) (*Index, error) {
	return read(&decoder{r: r, rows: math.MaxInt64, buf: make([]byte, blockSize), each: each}, -1)
}

func read(d *decoder, size int64) (*Index, error) {
	b, err := d.next(headerSize, "header")
	if err != nil {
		return nil, err
	}
	x, err := readHeader(b)
	if err != nil {
		return nil, err
	}
	if size >= 0 {
		if d.rows, err = rowsIn(size); err != nil {
			return nil, err
		}
	}
	if err := d.table(x); err != nil {
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

// bufferSize suits a file of size bytes; -1 is unknown.
func bufferSize(size int64) int64 {
	if size < 0 {
		return blockSize
	}
	return min(max(size, headerSize+tailSize), blockSize)
}

// rowsIn is how many rows a file of size bytes has.
func rowsIn(size int64) (int64, error) {
	const frame = headerSize + tailSize
	if size < frame || (size-frame)%rowSize != 0 {
		return 0, fmt.Errorf("index: %d bytes long, not %d and %d for each chunk", size, frame, rowSize)
	}
	return (size - frame) / rowSize, nil
}

// readHeader makes an index without rows of a file's header.
func readHeader(b []byte) (*Index, error) {
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

// A decoder reads one file from front to back.
type decoder struct {
	r    io.Reader
	off  int64 // of the next byte
	rows int64 // how many the file's length has room for
	buf  []byte
	left []byte // the part of buf that nobody has taken
	err  error  // why there is no more

	each func(x *Index, c Chunk) error // is told of each row; nil: nobody is
}

// table reads the rows and the tail.
func (d *decoder) table(x *Index) error {
	c := rowChecker{max: x.Params.Max}
	for {
		off := d.off
		b, err := d.some(rowSize, "table")
		if err != nil {
			return err
		}
		first := len(x.rows)
		n := int(min(int64(len(b)/rowSize), d.rows-int64(first)))
		x.rows = grow(x.rows, n, d.rows)
		good := c.take(x.rows[first:first+n], b)
		x.rows = x.rows[:first+good]
		d.skip(good * rowSize)
		if err := d.tell(x, first); err != nil {
			return err
		}
		if good == n && n > 0 {
			continue
		}
		b = b[good*rowSize:]
		off += int64(good) * rowSize
		// No chunk ends at 0, so two zeros can only be meant to be the tail.
		if int64(len(x.rows)) < d.rows && (u64(b, 0) != 0 || u64(b, 1) != 0) {
			return c.refuse(b)
		}
		d.skip(tailSize)
		return expect(b, off, "tail", 0, 0, indexSize, tableBytes(len(x.rows)), tailMark)
	}
}

// tell says which rows have come, from the number first on.
func (d *decoder) tell(x *Index, first int) error {
	for i := first; i < len(x.rows) && d.each != nil; i++ {
		if err := d.each(x, x.Chunk(i)); err != nil {
			return err
		}
	}
	return nil
}

// grow makes room for n more rows of total; math.MaxInt64 is unknown. If total is
// known there are few steps to it, each to eight times the rows that have come,
// or less: so little is copied, and a total that is a lie costs little.
func grow(rows []row, n int, total int64) []row {
	const first = 1024
	need := int64(len(rows) + n)
	if need <= int64(cap(rows)) {
		return rows
	}
	room := total
	for room/8 >= max(need, first) {
		room /= 8
	}
	if total == math.MaxInt64 {
		room = max(2*need, first)
	}
	return append(make([]row, 0, room), rows...)
}

// end makes sure that nothing follows.
func (d *decoder) end() error {
	switch d.fill(1); {
	case len(d.left) > 0:
		return fmt.Errorf("index: offset %d: bytes after the tail", d.off)
	case d.err != io.EOF:
		return fmt.Errorf("index: offset %d: %w", d.off, d.err)
	}
	return nil
}

// next takes n bytes, which are valid until the following call; part is where
// they belong to.
func (d *decoder) next(n int, part string) ([]byte, error) {
	b, err := d.some(n, part)
	if err != nil {
		return nil, err
	}
	d.skip(n)
	return b[:n], nil
}

// some returns what has been read, at least n bytes of it, for skip to take.
func (d *decoder) some(n int, part string) ([]byte, error) {
	if d.fill(n); len(d.left) >= n {
		return d.left, nil
	}
	off := d.off + int64(len(d.left))
	if d.err == io.EOF {
		return nil, fmt.Errorf("index: offset %d: truncated in the %s", off, part)
	}
	return nil, fmt.Errorf("index: offset %d: %w", off, d.err)
}

func (d *decoder) skip(n int) {
	d.left = d.left[n:]
	d.off += int64(n)
}

// fill reads until there are n bytes, or an error; and, since a read gives what
// it has, often many more.
func (d *decoder) fill(n int) {
	if len(d.left) >= n || d.err != nil {
		return
	}
	have := copy(d.buf, d.left)
	for empty := 0; have < n && d.err == nil; {
		var k int
		k, d.err = d.r.Read(d.buf[have:])
		have += k
		if empty++; k > 0 {
			empty = 0
		} else if empty == 100 && d.err == nil {
			d.err = io.ErrNoProgress
		}
	}
	d.left = d.buf[:have]
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
