package server

import (
	"sync"
	"sync/atomic"
)

// What answers are made in: of most kinds of chunk all, of others nearly all.
const (
	bufferSize = 272<<10 + plainHead
	bufferMost = 128     // 34 MiB for clients that take nothing
	plainHead  = 1 << 10 // more than the head of any answer
)

// buffers are lent within a budget.
type buffers struct {
	lent atomic.Int64
	pool sync.Pool
}

// lend is nil beyond the budget.
func (b *buffers) lend() *[bufferSize]byte {
	if b.lent.Add(1) > bufferMost {
		b.lent.Add(-1)
		return nil
	}
	if got, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return got
	}
	return new([bufferSize]byte)
}

func (b *buffers) back(p *[bufferSize]byte) {
	b.pool.Put(p)
	b.lent.Add(-1)
}
