package tree

import (
	"sync/atomic"
	"unsafe"
)

// A list grows and never moves what it has: it is read without a lock while one
// at a time adds to it.
type list[T any] struct {
	blocks atomic.Pointer[[]*[listBlock]T]
	n      atomic.Int64
}

const listBlock = 512

// len is the number of elements that were published.
func (l *list[T]) len() int { return int(l.n.Load()) }

// at returns an element that was published.
func (l *list[T]) at(i uint32) *T { return &(*l.blocks.Load())[i/listBlock][i%listBlock] }

// next is the element behind the last one, to be filled and published.
func (l *list[T]) next() *T {
	n := l.len()
	if n%listBlock == 0 {
		grow(&l.blocks, n/listBlock)
	}
	return l.at(uint32(n))
}

func (l *list[T]) publish() { l.n.Add(1) }

// grow adds a block to the have that there are, unless that was done. Readers of
// the old header do not look behind its length.
func grow[B any](blocks *atomic.Pointer[[]*B], have int) {
	p := blocks.Load()
	switch {
	case p == nil:
		blocks.Store(&[]*B{new(B)})
	case len(*p) == have:
		all := append(*p, new(B))
		blocks.Store(&all)
	}
}

// An arena keeps short texts, one behind the other. It is read as a list is.
type arena struct {
	blocks atomic.Pointer[[]*[arenaBlock]byte]
	next   int64
}

const (
	arenaBlock = 1 << 16
	arenaMost  = 1 << 32 // what a place of 32 bits reaches
)

// put adds two texts of together less than a block. It reports false if there
// is no more room.
func (a *arena) put(s, more string) (at uint32, ok bool) {
	n := int64(len(s) + len(more))
	if n == 0 {
		return 0, true
	}
	if rest := arenaBlock - a.next%arenaBlock; rest < n {
		a.next += rest // a text does not cross a border
	}
	if a.next >= arenaMost {
		return 0, false
	}
	grow(&a.blocks, int(a.next/arenaBlock))
	at = uint32(a.next)
	b := (*a.blocks.Load())[at/arenaBlock][at%arenaBlock:]
	copy(b[copy(b, s):], more)
	a.next += n
	return at, true
}

// text returns n bytes that begin skip bytes behind at.
func (a *arena) text(at uint32, skip, n int) string {
	if n == 0 {
		return ""
	}
	b := (*a.blocks.Load())[at/arenaBlock][int(at%arenaBlock)+skip:]
	// What was put is never written again, so it may be lent as a string.
	return unsafe.String(&b[0], n)
}
