package index

import (
	"context"
	"sort"

	"caravel/chunker"
	"caravel/feature"
)

// Digest is the algorithm of the chunks' IDs.
func (x *Remote) Digest() chunker.Digest { return x.flags.Digest() }

// Flags are the header's.
func (x *Remote) Flags() feature.Flags { return x.flags }

// Chunking is the sizes between which the chunks were cut.
func (x *Remote) Chunking() chunker.Params { return x.params }

// Size is the length of the stream in bytes.
func (x *Remote) Size() int64 { return x.size }

// Len is the number of chunks, repeated ones counted each time.
func (x *Remote) Len() int { return x.n }

// Seek implements Table. It is Len for an offset behind the end.
func (x *Remote) Seek(ctx context.Context, off int64) (int, error) {
	for try := 0; ; try++ {
		if whole := x.whole.Load(); whole != nil {
			return whole.Find(off), nil
		}
		if off >= x.size {
			return x.n, nil
		}
		off = max(off, 0)
		row, here, err := x.look(off, try)
		if here || err != nil {
			return row, err
		}
		if err := x.bring(ctx, row/blockRows); err != nil {
			return 0, err
		}
	}
}

// look finds the row of the chunk that holds the byte at off, if it is here, or
// guesses one that is not.
func (x *Remote) look(off int64, try int) (row int, here bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		return 0, false, x.bad
	}
	i := sort.Search(len(x.known), func(i int) bool { return x.known[i].endOff() > off })
	s := x.known[i] // the last one ends at the size
	if s.start <= off {
		return s.first + sort.Search(len(s.rows), func(i int) bool { return s.rows[i].end > off }), true, nil
	}
	before := x.known[i-1] // the first one starts at 0
	return x.guess(before.end(), before.endOff(), s.first, s.start, off, try), false, nil
}

// guess is a row between those from low on, whose chunk begins at lowOff, and
// before high, whose chunk begins at highOff, that may be the one at off. Every
// second guess is in the middle once the first ones have failed, for tables that
// are made to have them fail.
func (x *Remote) guess(low int, lowOff int64, high int, highOff, off int64, try int) int {
	most := int64(x.params.Max)
	least := low + int(min((off-lowOff)/most, int64(high-1-low)))
	last := high - 1 - int(min((highOff-off-1)/most, int64(high-1-low)))
	if try > 2 && try%2 == 1 {
		return least + (last-least)/2
	}
	share := float64(off-lowOff) / float64(highOff-lowOff)
	return min(max(low+int(share*float64(high-low)), least), last)
}

// Row implements Table.
func (x *Remote) Row(ctx context.Context, i int) (Chunk, error) {
	for {
		if whole := x.whole.Load(); whole != nil {
			return whole.Chunk(i), nil
		}
		c, here, err := x.row(i)
		if here || err != nil {
			return c, err
		}
		if err := x.bring(ctx, i/blockRows); err != nil {
			return Chunk{}, err
		}
	}
}

// row is row i, if it is here.
func (x *Remote) row(i int) (c Chunk, here bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		return Chunk{}, false, x.bad
	}
	if !x.has(i) {
		return Chunk{}, false, nil
	}
	return x.known[x.holding(i)].chunk(i), true, nil
}

// Ready implements Table.
func (x *Remote) Ready(off, n int64) bool {
	if x.whole.Load() != nil {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	end := off + min(n, x.size-off)
	for i := sort.Search(len(x.known), func(i int) bool { return x.known[i].endOff() > off }); off < end; i++ {
		if i == len(x.known) || x.known[i].start > off {
			return false
		}
		off = x.known[i].endOff()
	}
	return x.bad == nil
}
