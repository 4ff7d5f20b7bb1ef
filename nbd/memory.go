package nbd

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// A pool is bytes of memory that connections take and give back. Who comes
// first gets them first, so a large request is not starved by small ones.
type pool struct {
	pressed func() // called every second while somebody waits

	mu      sync.Mutex // guards free and waiting
	free    int64
	waiting []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when the bytes are the waiter's
}

func newPool(n int64, pressed func()) *pool {
	return &pool{free: n, pressed: pressed}
}

// try takes n bytes if that needs no waiting.
func (p *pool) try(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 || p.free < n {
		return false
	}
	p.free -= n
	return true
}

// take takes n bytes, as soon as there are.
func (p *pool) take(ctx context.Context, n int64) error {
	if p.try(n) {
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.serve()
	p.mu.Unlock()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-w.ready:
			return nil
		case <-tick.C:
			p.pressed()
		case <-ctx.Done():
			p.leave(w)
			return context.Cause(ctx)
		}
	}
}

func (p *pool) give(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += n
	p.serve()
}

// leave takes w out of the line, or gives back what it was served meanwhile.
func (p *pool) leave(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	} else {
		p.free += w.n
	}
	p.serve()
}

// serve hands free bytes to those first in line. p.mu is held.
func (p *pool) serve() {
	for len(p.waiting) > 0 && p.waiting[0].n <= p.free {
		p.free -= p.waiting[0].n
		close(p.waiting[0].ready)
		p.waiting = slices.Delete(p.waiting, 0, 1)
	}
}

const (
	headroom  = 32      // before a payload, for the header of its reply
	smallest  = 4 << 10 // payload of the smallest buffer
	bufferSet = 14      // 4 KiB to 32 MiB
)

// buffers are free payload buffers by size, shared by all connections.
type buffers [bufferSet]sync.Pool

// A buffer has room for a payload with headroom in front, so that a reply's
// header and payload are one piece.
type buffer struct {
	bytes []byte
	class int
}

// class is the number of the smallest size of buffer for a payload of n bytes.
func class(n int) int {
	return bits.Len(uint(max(n, smallest)-1)) - bits.Len(smallest-1)
}

// cost is the memory that the buffer for n bytes takes.
func cost(n int) int64 {
	if n == 0 {
		return 0
	}
	return smallest << class(n)
}

func (b *buffers) get(n int) *buffer {
	k := class(n)
	if buf, ok := b[k].Get().(*buffer); ok {
		return buf
	}
	return &buffer{make([]byte, headroom+smallest<<k), k}
}

func (b *buffers) put(buf *buffer) { b[buf.class].Put(buf) }
