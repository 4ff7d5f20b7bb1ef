package blockcache

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/store"
)

// A key names a chunk in memory: equal IDs of two algorithms are two chunks.
type key struct {
	id     chunker.ID
	digest chunker.Digest
}

// A resident is a verified chunk in memory. It owns one reference.
type resident struct {
	chunk *store.Chunk
	plain []byte
	class store.Class // on whose behalf it was fetched
	read  bool        // somebody waited for it
	since int64       // value of Memory.taken when it was first read
}

// Memory is a tier of plain chunks under a budget in bytes, shared by all
// images of a process. Its methods may be called from many goroutines.
//
// What is under way counts as well: room is made before a chunk is asked for,
// and a reader waits while all of the budget is under way. Hints get at most
// half of it. A chunk larger than the budget comes alone and is not kept. With
// a budget of 0 nothing is kept, and nothing waits.
type Memory struct {
	budget int64
	flight *semaphore.Weighted // bytes under way, out of budget
	others *semaphore.Weighted // of those, what readers of the background may have

	patient chan struct{} // held by the one gentle hint that waits for room

	mu       sync.Mutex // guards what follows
	recent   *segment   // in the order in which they came
	frequent *segment   // read again after a while, the last use first
	gone     *ghosts    // lately evicted
	reserved int64      // bytes under way
	hints    map[key]hint
	hinted   int64         // bytes of hints
	unread   int64         // bytes in recent that hints brought and nobody read
	stirred  chan struct{} // closed when there may be room for a gentle hint again; nil: nobody waits
	taken    int64         // bytes ever put, the clock of the policy
	stats    MemoryStats
}

// MemoryStats counts what the memory has done; the tables go by the class of
// the view that gave the hint.
type MemoryStats struct {
	Bytes    int64 // plain bytes of the chunks in memory
	UnderWay int64 // plain bytes of the chunks asked for

	Fetched [store.Classes]int64 // bytes that came because of a hint
	Used    [store.Classes]int64 // of those, read
	Wasted  [store.Classes]int64 // of those, evicted before anybody read them
}

// NewMemory returns an empty memory for budget bytes of plain chunks.
func NewMemory(budget int64) *Memory {
	budget = max(budget, 0)
	return &Memory{
		budget:   budget,
		flight:   semaphore.NewWeighted(budget),
		others:   semaphore.NewWeighted(budget / 4),
		recent:   newSegment(),
		frequent: newSegment(),
		gone:     newGhosts(budget),
		patient:  make(chan struct{}, 1),
		hints:    make(map[key]hint),
	}
}

// Stats is what the memory has done so far.
func (m *Memory) Stats() MemoryStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Bytes, s.UnderWay = m.recent.bytes+m.frequent.bytes, m.reserved
	return s
}

// get returns a chunk for a reader, who releases it.
func (m *Memory) get(k key) (c *store.Chunk, plain []byte, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.frequent.use(k)
	if !ok {
		if r, ok = m.recent.look(k); !ok {
			return nil, nil, false
		}
		m.touch(k, r)
	}
	return r.chunk.Retain(), r.plain, true
}

// touch notes that a recent chunk is read. The many small reads of one pass
// over a chunk are one use; a read after an eighth of the budget has come in
// meanwhile is another, and so is the first one of a chunk that was evicted
// not long ago. Only another use promotes: a scan never does.
func (m *Memory) touch(k key, r *resident) {
	if !r.read {
		r.read, r.since = true, m.taken
		m.unread -= int64(len(r.plain))
		m.stats.Used[r.class] += int64(len(r.plain))
		m.stir()
		if m.gone.takeRead(k) {
			m.promote(k, r)
		}
		return
	}
	if m.taken-r.since > m.budget/8 {
		m.promote(k, r)
	}
}

func (m *Memory) promote(k key, r *resident) {
	m.recent.remove(k)
	m.frequent.add(k, r)
}

// queue waits for the turn of a reader of the background, who calls leave when it
// is over. The semaphore below serves in the order of arrival: with hints taking
// half of the budget at most and these a quarter, nobody of them stands before a
// reader of demand with all of it.
func (m *Memory) queue(ctx context.Context, size int) (leave func(), err error) {
	n := min(int64(size), m.budget/4)
	if err := m.others.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { m.others.Release(n) }, nil
}

// reserve waits for room for a chunk of size bytes and takes it.
func (m *Memory) reserve(ctx context.Context, size int) error {
	n := m.share(size)
	if err := m.flight.Acquire(ctx, n); err != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	m.reserved += n
	out := m.evict()
	m.mu.Unlock()
	release(out)
	return nil
}

// unreserve gives back the room of a chunk that did not come.
func (m *Memory) unreserve(size int) {
	n := m.share(size)
	m.mu.Lock()
	m.reserved -= n
	m.flight.Release(n)
	m.stir()
	m.mu.Unlock()
}

// share is what a chunk takes of the budget while it is under way.
func (m *Memory) share(size int) int64 { return min(int64(size), m.budget) }

// peek returns a chunk for who does not read it, and releases it.
func (m *Memory) peek(k key) (c *store.Chunk, plain []byte, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.frequent.look(k)
	if !ok {
		if r, ok = m.recent.look(k); !ok {
			return nil, nil, false
		}
	}
	return r.chunk.Retain(), r.plain, true
}

// put keeps a chunk that a reader waited for, in the room reserved for it. It
// takes over the caller's reference.
func (m *Memory) put(k key, c *store.Chunk, plain []byte, class store.Class) {
	n := m.share(len(plain))
	m.mu.Lock()
	kept := false
	if r, ok := m.recent.look(k); ok {
		m.touch(k, r) // a hint was as fast
	} else if !m.has(k) && n > 0 && n == int64(len(plain)) {
		r := &resident{chunk: c, plain: plain, class: class, read: true, since: m.taken}
		m.taken += n
		kept = true
		if class == store.Demand && m.gone.takeRead(k) {
			m.frequent.add(k, r)
		} else {
			m.recent.add(k, r)
		}
	}
	if !kept { // its bytes go before their room is given away
		m.mu.Unlock()
		c.Release()
		m.mu.Lock()
	}
	m.reserved -= n
	m.flight.Release(n)
	m.stir()
	m.mu.Unlock()
}

// has reports whether a chunk is in memory, without using it.
func (m *Memory) has(k key) bool {
	_, ok := m.recent.look(k)
	if !ok {
		_, ok = m.frequent.look(k)
	}
	return ok
}

// state tells where a chunk is, without using it.
func (m *Memory) state(k key) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.has(k):
		return Resident
	case m.gone.unread(k):
		return Lost
	}
	return Absent
}

// evict makes the chunks in memory fit beside what is reserved and returns
// those that are out, for release without the lock. The recent ones give way
// while they hold more than a quarter of the budget.
func (m *Memory) evict() (out []*store.Chunk) {
	for m.recent.bytes+m.frequent.bytes+m.reserved > m.budget {
		from := m.frequent
		if m.recent.bytes > m.budget/4 || from.bytes == 0 {
			from = m.recent
		}
		k, r, ok := from.evict()
		if !ok {
			break // not reached: reserved is never above the budget
		}
		if !r.read {
			m.unread -= int64(len(r.plain))
			m.stats.Wasted[r.class] += int64(len(r.plain))
		}
		m.gone.add(k, r)
		out = append(out, r.chunk)
	}
	return out
}

func release(chunks []*store.Chunk) {
	for _, c := range chunks {
		c.Release()
	}
}
