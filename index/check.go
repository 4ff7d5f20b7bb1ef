package index

import (
	"fmt"
	"math"

	"caravel/chunker"
)

// A rowChecker goes through the rows of a table in their order.
type rowChecker struct {
	n     int    // number of the next row
	start uint64 // where its chunk begins
	max   int    // size of a chunk
}

// take checks the rows in b and puts them into dst, until that is full. It
// returns the number of those before the first that no index may have.
func (c *rowChecker) take(dst []row, b []byte) int {
	start, most := c.start, uint64(c.max)
	for i := range dst {
		r := b[i*rowSize:][:rowSize]
		end := u64(r, 0)
		// A chunk of no bytes, or of fewer, is one of very many here.
		if end-start-1 >= most || end > math.MaxInt64 {
			c.n, c.start = c.n+i, start
			return i
		}
		dst[i] = row{int64(end), chunker.ID(r[8:])}
		start = end
	}
	c.n, c.start = c.n+len(dst), start
	return len(dst)
}

// refuse says why take has not taken the row in b.
func (c *rowChecker) refuse(b []byte) error {
	off, end := headerSize+rowSize*int64(c.n), u64(b, 0)
	switch {
	case end > math.MaxInt64:
		return fmt.Errorf("index: offset %d: chunk %d ends at %d, beyond 2^63-1", off, c.n, end)
	case end <= c.start:
		return fmt.Errorf("index: offset %d: chunk %d ends at %d, not after %d", off, c.n, end, c.start)
	}
	return fmt.Errorf("index: offset %d: chunk %d has %d bytes, above the maximum of %d", off, c.n, end-c.start, c.max)
}
