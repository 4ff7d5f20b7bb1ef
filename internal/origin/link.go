package origin

import (
	"context"
	"sync"
	"time"
)

const (
	// pieceSize is how much of an answer goes over the link without a turn for
	// others.
	pieceSize = 16 << 10

	// slack is how late a sender may come without the link standing idle: timers
	// wake up late, and the rate must not suffer from it.
	slack = 2 * time.Millisecond
)

// A link carries the bytes of all answers one piece after the other.
type link struct {
	rate int64 // bytes per second; 0: no limit

	mu   sync.Mutex // guards free
	free time.Time  // when the pieces taken so far are through
}

func newLink(rate int64) *link { return &link{rate: rate} }

// carry returns when n bytes are through.
func (l *link) carry(ctx context.Context, n int) error {
	if l.rate <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-slack); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if !sleep(ctx, wait) {
		return context.Cause(ctx)
	}
	return nil
}
