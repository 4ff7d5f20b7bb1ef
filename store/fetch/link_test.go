package fetch_test

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A link carries answers one after the other, in the order in which they get to
// it: what somebody asked for waits behind all that was asked for before. With
// a fake clock it is exact, however busy the machine is.
type link struct {
	mu    sync.Mutex // guards what follows
	rate  float64    // bytes per second; 0: no limit
	busy  bool
	queue []chan struct{}
	bytes int64 // carried, or begun
}

// set changes the rate, from the next quantum on.
func (l *link) set(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// quantum is how long the link goes on before it looks at its rate again.
const quantum = 2 * time.Millisecond

// carry returns when size bytes are through. An answer that nobody wants any
// more leaves the link to others.
func (l *link) carry(ctx context.Context, size int) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.pass()
	for left := float64(size); left > 0; {
		l.mu.Lock()
		rate := l.rate
		l.mu.Unlock()
		if rate == 0 {
			break
		}
		d := min(time.Duration(left/rate*float64(time.Second)), quantum)
		if err := sleep(ctx, max(d, 1)); err != nil {
			return err
		}
		left -= rate * max(d, 1).Seconds()
		if left < 1 {
			break
		}
	}
	l.mu.Lock()
	l.bytes += int64(size)
	l.mu.Unlock()
	return nil
}

func (l *link) take(ctx context.Context) error {
	l.mu.Lock()
	if !l.busy {
		l.busy = true
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.queue, turn)
	if i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 { // it was our turn already
		l.pass()
	}
	return ctx.Err()
}

func (l *link) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.busy = false
		return
	}
	close(l.queue[0])
	l.queue = l.queue[1:]
}
