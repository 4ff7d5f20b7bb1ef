package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// A flight is a block that somebody reads.
type flight struct {
	done chan struct{} // closed when err and gone are set
	err  error
	gone bool // whoever read it has left
}

// bring reads a block, or waits until somebody else has.
func (x *Remote) bring(ctx context.Context, block int) error {
	x.mu.Lock()
	if x.has(block * blockRows) { // by now
		x.mu.Unlock()
		return nil
	}
	f, joined := x.flights[block]
	if !joined {
		f = &flight{done: make(chan struct{})}
		x.flights[block] = f
	}
	x.mu.Unlock()
	if !joined {
		x.fly(ctx, f, block)
		return f.err
	}
	select {
	case <-f.done:
		if f.gone {
			return nil // look again: it is still missing, and nobody reads it
		}
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fly reads a block for all who have joined.
func (x *Remote) fly(ctx context.Context, f *flight, block int) {
	first := block * blockRows
	b, err := x.bytes(ctx, rowOffset(first-1), rowOffset(min(first+blockRows, x.n)))
	f.gone = err != nil && ctx.Err() != nil
	var s stretch
	bad := error(nil)
	if err == nil {
		s, bad = x.parse(first, u64(b, 0), b[rowSize:])
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil && bad == nil {
		bad = x.place(s)
	}
	switch {
	case x.whole.Load() != nil: // Fill was faster
	case bad != nil:
		f.err = x.spoil(bad)
	default:
		f.err = err
	}
	delete(x.flights, block)
	close(f.done)
}

// spoil takes note of what is wrong with the file, and returns the first that
// was. The caller holds mu.
func (x *Remote) spoil(err error) error {
	if x.bad == nil {
		x.bad = spoilt{err}
		x.known = nil
	}
	return x.bad
}

// holding is the first stretch that ends behind row i, and has says whether it
// holds the row. The caller holds mu.
func (x *Remote) holding(i int) int {
	return sort.Search(len(x.known), func(k int) bool { return x.known[k].end() > i })
}

func (x *Remote) has(i int) bool {
	k := x.holding(i)
	return k < len(x.known) && x.known[k].first <= i
}

// place adds a block to those that are known, if all of them can be in one
// table. The caller holds mu.
func (x *Remote) place(s stretch) error {
	if x.bad != nil {
		return x.bad
	}
	i := x.holding(s.first)
	if x.has(s.first) {
		return same(x.known[i], s)
	}
	row, off := 0, int64(0)
	if i > 0 {
		row, off = x.known[i-1].end(), x.known[i-1].endOff()
	}
	if !x.fits(s.first-row, s.start-off) {
		return x.misfit(s.first, s.start, row, off)
	}
	row, off = x.n, x.size
	if i < len(x.known) {
		row, off = x.known[i].first, x.known[i].start
	}
	if !x.fits(row-s.end(), off-s.endOff()) {
		return x.misfit(row, off, s.end(), s.endOff())
	}
	x.known = slices.Insert(x.known, i, s)
	return nil
}

// fits reports whether n chunks can have so many bytes.
func (x *Remote) fits(n int, size int64) bool {
	most := int64(x.params.Max)
	return size >= int64(n) && (int64(n) > math.MaxInt64/most || size <= int64(n)*most)
}

func (x *Remote) misfit(row int, off int64, before int, beforeOff int64) error {
	return fmt.Errorf("index: offset %d: chunk %d begins at %d, which cannot be if chunk %d begins at %d",
		rowOffset(row), row, off, before, beforeOff)
}

var errContradiction = errors.New("another row than was here before")

// same makes sure that what is known of some rows is what has come. All of s is
// in known.
func same(known, s stretch) error {
	start := s.first - known.first
	for i, r := range s.rows {
		if r != known.rows[start+i] {
			return fmt.Errorf("index: offset %d: %w", rowOffset(s.first+i), errContradiction)
		}
	}
	if s.first > 0 && known.chunk(s.first).Start != s.start {
		return fmt.Errorf("index: offset %d: %w", rowOffset(s.first-1), errContradiction)
	}
	return nil
}
