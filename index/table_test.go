package index_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync/atomic"

	"caravel/chunker"
	"caravel/feature"
)

// A table is an index file of any length that is made up where it is read.
type table struct {
	n    int
	size func(i int) int64 // of chunk i
	ends []int64           // of each group of chunks

	reads, bytes atomic.Int64
	spoil        func(p []byte, off int64)                  // changes what was read; nil: nothing
	before       func(ctx context.Context, off int64) error // nil: nothing
}

// group is how many chunks are made up at once.
const group = 4096

func newTable(n int, size func(i int) int64) *table {
	t := &table{n: n, size: size}
	end := int64(0)
	for i := range n {
		if i%group == 0 {
			t.ends = append(t.ends, end)
		}
		end += size(i)
	}
	t.ends = append(t.ends, end)
	return t
}

// dataSize is what chunks of data have: the minimum and what comes until the
// first cut.
func dataSize(i int) int64 {
	h := mix(uint64(i))
	p := chunker.DefaultParams()
	return int64(min(float64(p.Min)+quantiles[h%uint64(len(quantiles))], float64(p.Max)))
}

// quantiles of the exponential distribution.
var quantiles = func() (q [1024]float64) {
	for i := range q {
		q[i] = -math.Log1p(-(float64(i)+0.5)/float64(len(q))) * 49_535
	}
	return q
}()

func mix(h uint64) uint64 {
	h = (h + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// total is the length of the image.
func (t *table) total() int64 { return t.ends[len(t.ends)-1] }

// Size is the length of the file.
func (t *table) Size() int64 { return 104 + 40*int64(t.n) }

func (t *table) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	t.reads.Add(1)
	t.bytes.Add(int64(len(p)))
	if t.before != nil {
		if err := t.before(ctx, off); err != nil {
			return 0, err
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	n := t.read(p, off)
	if t.spoil != nil {
		t.spoil(p[:n], off)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read copies what the file has at off.
func (t *table) read(p []byte, off int64) int {
	first := max(int(off-64)/40, 0)
	first -= first % group
	at, end := int64(0), int64(0)
	if off >= 64 {
		at, end = 64+40*int64(first), t.ends[min(first/group, len(t.ends)-1)]
	}
	n := 0
	put := func(b []byte) {
		if skip := off + int64(n) - at; skip < int64(len(b)) {
			n += copy(p[n:], b[skip:])
		}
		at += int64(len(b))
	}
	if off < 64 {
		put(t.header())
	}
	var row [40]byte
	for i := first; i < t.n && n < len(p); i++ {
		end += t.size(i)
		binary.LittleEndian.PutUint64(row[:], uint64(end))
		binary.LittleEndian.PutUint64(row[8:], uint64(i))
		put(row[:])
	}
	if n < len(p) {
		put(numbers(0, 0, 48, 56+40*uint64(t.n), 0x4b4f050e5549ecd1))
	}
	return n
}

func (t *table) header() []byte {
	p := chunker.DefaultParams()
	return numbers(48, 0x96824d9c7b129ff9, uint64(feature.Blob(chunker.SHA512_256)),
		uint64(p.Min), uint64(p.Avg), uint64(p.Max), math.MaxUint64, 0xe75b9e112f17417d)
}

func numbers(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// offset is some byte of the image.
func (t *table) offset(rng *rand.Rand) int64 { return rng.Int64N(t.total()) }

// check says what is wrong about a row that shall hold the byte at off.
func (t *table) check(row int, start, size int64, id chunker.ID, off int64) error {
	want := numbers(uint64(row))
	if off < start || off >= start+size || size != t.size(row) || id != chunker.ID(append(want, make([]byte, 24)...)) {
		return fmt.Errorf("byte %d: got row %d, %d bytes at %d, ID %v", off, row, size, start, id)
	}
	return nil
}
