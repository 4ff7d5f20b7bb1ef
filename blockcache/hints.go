package blockcache

import (
	"context"

	"caravel/store"
)

// hintsAtOnce is how many chunks that nobody waits for may be under way, beside
// the limit in bytes: tiny chunks cost more than their bytes.
const hintsAtOnce = 1024

// A hint is a chunk under way that nobody waited for when it was asked for.
type hint struct {
	size int64
	life context.Context // ends when the chunk is in memory, or has come to nothing
	end  context.CancelFunc
}

// hint takes room for a chunk that nobody waits for. start reports whether the
// caller is to fetch it, full that there is no room for this one or any other;
// neither means that it is here or on its way.
func (m *Memory) hint(k key, size int) (start, full bool) {
	m.mu.Lock()
	if _, ok := m.hints[k]; ok || m.has(k) {
		m.mu.Unlock()
		return false, false
	}
	n := int64(size)
	if m.hinted+n > m.budget/2 || len(m.hints) >= hintsAtOnce || !m.flight.TryAcquire(n) {
		m.mu.Unlock()
		return false, true
	}
	m.begin(k, n)
	out := m.evict()
	m.mu.Unlock()
	release(out)
	return true, false
}

// begin notes a hint of n bytes.
func (m *Memory) begin(k key, n int64) {
	h := hint{size: n}
	h.life, h.end = context.WithCancel(context.Background())
	m.hints[k] = h
	m.hinted += n
	m.reserved += n
}

// hintGently is hint for who comes with much at once: what such hints have
// brought, and nobody has read yet, counts as under way, and only chunks on
// probation that were read make room. Fetched means that the caller is to fetch
// it; of NoRoom, stirred is closed when that may have changed, and nil if it is
// of no use to wait: the chunk is too large, or some that were brought in this
// class had to go before anybody read them.
func (m *Memory) hintGently(k key, size int, class store.Class) (o Outcome, stirred <-chan struct{}) {
	m.mu.Lock()
	if _, ok := m.hints[k]; ok || m.has(k) {
		m.mu.Unlock()
		return Here, nil
	}
	n := int64(size)
	over := m.recent.bytes + m.frequent.bytes + m.reserved + n - m.budget
	if m.hinted+m.unread+n > m.budget/2 || over > m.recent.bytes-m.unread ||
		len(m.hints) >= hintsAtOnce || !m.flight.TryAcquire(n) {
		defer m.mu.Unlock()
		if n > m.budget/2 || m.stats.Wasted[class] > 0 {
			return NoRoom, nil
		}
		if m.stirred == nil {
			m.stirred = make(chan struct{})
		}
		return NoRoom, m.stirred
	}
	m.begin(k, n)
	out := m.evictRead(over)
	m.mu.Unlock()
	release(out)
	return Fetched, nil
}

// stir wakes the hint that waits for room. m.mu is held.
func (m *Memory) stir() {
	if m.stirred != nil {
		close(m.stirred)
		m.stirred = nil
	}
}

// hintPatiently is hintGently, but waits for room as long as that is of use. A
// chunk that was read meanwhile, and is gone again, counts as here.
func (m *Memory) hintPatiently(ctx context.Context, k key, size int, class store.Class) (Outcome, error) {
	select {
	case m.patient <- struct{}{}:
		defer func() { <-m.patient }()
	case <-ctx.Done():
		return NoRoom, context.Cause(ctx)
	}
	for {
		if m.wasRead(k) {
			return Here, nil
		}
		o, stirred := m.hintGently(k, size, class)
		if stirred == nil {
			return o, nil
		}
		select {
		case <-stirred:
		case <-ctx.Done():
			return NoRoom, context.Cause(ctx)
		}
	}
}

// wasRead reports whether a chunk was read before it went.
func (m *Memory) wasRead(k key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone.read(k)
}

// evictRead makes room of n bytes among the recent chunks that were read, which
// are as many at least. Those that were not go to the end of the line.
func (m *Memory) evictRead(n int64) (out []*store.Chunk) {
	for n > 0 {
		k, r, ok := m.recent.evict()
		if !ok {
			break // not reached: there were enough
		}
		if !r.read {
			m.recent.add(k, r)
			continue
		}
		n -= int64(len(r.plain))
		m.gone.add(k, r)
		out = append(out, r.chunk)
	}
	return out
}

// dropHint gives back the room of a hint, whose chunk has come to nothing.
func (m *Memory) dropHint(k key) {
	m.mu.Lock()
	m.flight.Release(m.endHint(k))
	m.stir()
	m.mu.Unlock()
}

// endHint ends a hint and returns what is to be released.
func (m *Memory) endHint(k key) int64 {
	h := m.hints[k]
	delete(m.hints, k)
	m.hinted -= h.size
	m.reserved -= h.size
	h.end()
	return h.size
}

// hintOf returns the life of the hint that has a chunk under way, or nil.
func (m *Memory) hintOf(k key) context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hints[k].life
}

// putHint keeps a chunk that a hint has brought, and takes over the caller's
// reference. If a reader was faster, his is kept: the hint was of use
// nevertheless.
func (m *Memory) putHint(k key, c *store.Chunk, plain []byte, class store.Class) {
	m.mu.Lock()
	n := m.endHint(k)
	m.stats.Fetched[class] += n
	late := m.has(k)
	if late {
		m.stats.Used[class] += n
	} else {
		m.recent.add(k, &resident{chunk: c, plain: plain, class: class})
		m.unread += n
		m.taken += n
	}
	if late { // its bytes go before their room is given away
		m.mu.Unlock()
		c.Release()
		m.mu.Lock()
	}
	m.flight.Release(n)
	m.stir()
	m.mu.Unlock()
}
