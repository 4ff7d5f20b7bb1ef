package overlay

import (
	"context"
	"slices"
	"sync"
)

// ranges are the blocks that somebody holds. The zero value is ready.
type ranges struct {
	mu   sync.Mutex // guards held, and what is in it
	held []*held
}

// held are the blocks from first to end.
type held struct {
	first, end int64
	free       chan struct{} // closed when they are given back; nil: nobody waits
}

// take waits until nobody holds one of the blocks from first to end, and holds
// them.
func (r *ranges) take(ctx context.Context, first, end int64) (*held, error) {
	for {
		mine, free := r.try(first, end)
		if mine != nil {
			return mine, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// try is take that does not wait: if another holds one of the blocks it returns
// what that one closes.
func (r *ranges) try(first, end int64) (mine *held, free chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if h.first < end && first < h.end {
			if h.free == nil {
				h.free = make(chan struct{})
			}
			return nil, h.free
		}
	}
	mine = &held{first: first, end: end}
	r.held = append(r.held, mine)
	return mine, nil
}

// give gives back what take returned.
func (r *ranges) give(h *held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.held, h)
	last := len(r.held) - 1
	r.held[i], r.held[last] = r.held[last], nil
	r.held = r.held[:last]
	if h.free != nil {
		close(h.free)
	}
}
