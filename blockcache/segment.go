package blockcache

import (
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A segment is a part of the memory: chunks in an order, counted in bytes.
type segment struct {
	lru   *simplelru.LRU[key, *resident]
	bytes int64
}

func newSegment() *segment { return &segment{lru: unbounded[*resident]()} }

// use finds a chunk and makes it the last to go.
func (s *segment) use(k key) (*resident, bool) { return s.lru.Get(k) }

// look finds a chunk and leaves the order as it is.
func (s *segment) look(k key) (*resident, bool) { return s.lru.Peek(k) }

// add puts in a chunk that is not there, as the last to go.
func (s *segment) add(k key, r *resident) {
	s.lru.Add(k, r)
	s.bytes += int64(len(r.plain))
}

// remove takes out a chunk that is there.
func (s *segment) remove(k key) {
	if r, ok := s.lru.Peek(k); ok {
		s.lru.Remove(k)
		s.bytes -= int64(len(r.plain))
	}
}

// evict takes out the chunk that is first to go.
func (s *segment) evict() (key, *resident, bool) {
	k, r, ok := s.lru.RemoveOldest()
	if ok {
		s.bytes -= int64(len(r.plain))
	}
	return k, r, ok
}

// A ghost is what is remembered of a chunk that is no longer in memory.
type ghost struct {
	size int64
	read bool
}

// ghosts remembers evicted chunks, as many as would fill the memory once more.
type ghosts struct {
	lru    *simplelru.LRU[key, ghost]
	bytes  int64
	budget int64
}

func newGhosts(budget int64) *ghosts {
	return &ghosts{lru: unbounded[ghost](), budget: budget}
}

func (g *ghosts) add(k key, r *resident) {
	g.remove(k)
	size := int64(len(r.plain))
	g.lru.Add(k, ghost{size: size, read: r.read})
	for g.bytes += size; g.bytes > g.budget; {
		_, old, _ := g.lru.RemoveOldest()
		g.bytes -= old.size
	}
}

// takeRead forgets a chunk and reports whether it had been read.
func (g *ghosts) takeRead(k key) bool {
	old, ok := g.remove(k)
	return ok && old.read
}

// read reports whether a chunk was read before it went.
func (g *ghosts) read(k key) bool {
	old, ok := g.lru.Peek(k)
	return ok && old.read
}

// unread reports whether a chunk went before anybody read it.
func (g *ghosts) unread(k key) bool {
	old, ok := g.lru.Peek(k)
	return ok && !old.read
}

func (g *ghosts) remove(k key) (ghost, bool) {
	old, ok := g.lru.Peek(k)
	if ok {
		g.lru.Remove(k)
		g.bytes -= old.size
	}
	return old, ok
}

// unbounded is a list without a limit of its own: its users count bytes.
func unbounded[V any]() *simplelru.LRU[key, V] {
	lru, err := simplelru.NewLRU[key, V](math.MaxInt, nil)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return lru
}
