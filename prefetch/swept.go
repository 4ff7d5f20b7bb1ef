package prefetch

import (
	"context"
	"sync/atomic"
)

// A Swept is a Keeper that takes note of what was fetched for it, and of what of
// that somebody read afterwards: what a sweep was good for. It takes a bit for each
// row. Its methods may be called from many goroutines; a nil one takes no note.
type Swept struct {
	Keeper
	unread []atomic.Uint64
	read   atomic.Int64
}

// NewSwept watches over k.
func NewSwept(k Keeper) *Swept {
	return &Swept{Keeper: k, unread: make([]atomic.Uint64, bitsFor(k.Rows()))}
}

// Keep implements Keeper.
func (s *Swept) Keep(ctx context.Context, row int) (size int, err error) {
	size, err = s.Keeper.Keep(ctx, row)
	if size > 0 && err == nil {
		s.unread[row/64].Or(1 << (row % 64))
	}
	return size, err
}

// Touch says that a reader has come to a row, as often as it does. The second time
// it costs a look at one bit.
func (s *Swept) Touch(row int) {
	if s == nil || row < 0 || row/64 >= len(s.unread) {
		return
	}
	word, bit := &s.unread[row/64], uint64(1)<<(row%64)
	if word.Load()&bit != 0 && word.And(^bit)&bit != 0 {
		s.read.Add(1)
	}
}

// Read is how many of the chunks fetched were read since. What the kernel reads by
// itself, of a materialised file, nobody sees.
func (s *Swept) Read() int64 {
	if s == nil {
		return 0
	}
	return s.read.Load()
}
