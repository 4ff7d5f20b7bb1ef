//go:build linux

package fusefs

import "sync"

// handles are what the kernel has opened, by the numbers that it was given. The
// zero value is ready.
type handles[T any] struct {
	mu   sync.RWMutex
	open map[uint64]T // guarded by mu
	last uint64       // number given; guarded by mu
	over bool         // guarded by mu
}

// add gives h a number, never 0, unless everything is closed.
func (t *handles[T]) add(h T) (number uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, false
	}
	if t.open == nil {
		t.open = make(map[uint64]T)
	}
	t.last++
	t.open[t.last] = h
	return t.last, true
}

func (t *handles[T]) get(number uint64) (h T, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h, ok = t.open[number]
	return h, ok
}

func (t *handles[T]) remove(number uint64) (h T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok = t.open[number]
	delete(t.open, number)
	return h, ok
}

// close returns what is still open, and lets nothing more be opened.
func (t *handles[T]) close() map[uint64]T {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.open
	t.open, t.over = nil, true
	return left
}
