package origin

import (
	"context"
	"sync"
	"time"
)

const (
	// pieceTime is how long an answer has the link before it is another's turn,
	// within the sizes below.
	pieceTime  = 500 * time.Microsecond
	smallPiece = 16 << 10
	largePiece = 64 << 10

	// slack is how late a sender may come without the link standing idle: timers
	// wake up late, and the rate must not suffer from it.
	slack = 2 * time.Millisecond
)

// A link carries the bytes of all answers one piece after the other.
type link struct {
	mu      sync.Mutex    // guards what follows
	rate    int64         // bytes per second; 0: no limit
	asked   int64         // bytes that have been asked for so far
	carried float64       // of these, how many were through at the time since
	since   time.Time     //
	changed chan struct{} // closed when the rate changes
}

func newLink(rate int64) *link { return &link{rate: rate, changed: make(chan struct{})} }

// setRate changes the rate, also for what is being carried.
func (l *link) setRate(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(time.Now(), 0)
	l.rate = max(rate, 0)
	close(l.changed)
	l.changed = make(chan struct{})
}

// advance says what has been carried until now, for a caller that holds the
// lock. A link that stood idle may have begun that much earlier.
func (l *link) advance(now time.Time, early time.Duration) {
	if l.rate <= 0 {
		l.carried = float64(l.asked)
		l.since = now
		return
	}
	carried := l.carried + now.Sub(l.since).Seconds()*float64(l.rate)
	if most := float64(l.asked) + early.Seconds()*float64(l.rate); carried > most {
		carried = most
	}
	l.carried, l.since = carried, now
}

// piece is how much of an answer goes without a turn for others.
func (l *link) piece() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate <= 0 {
		return 1 << 30
	}
	return int(min(max(float64(l.rate)*pieceTime.Seconds(), smallPiece), largePiece))
}

// carry returns when n bytes are through.
func (l *link) carry(ctx context.Context, n int) error {
	l.mu.Lock()
	l.advance(time.Now(), slack)
	l.asked += int64(n)
	end := float64(l.asked)
	for {
		wait, changed := l.until(end), l.changed
		l.mu.Unlock()
		if wait <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			return nil
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		l.mu.Lock()
	}
}

// until is how long it takes until so many bytes are through, for a caller that
// holds the lock.
func (l *link) until(end float64) time.Duration {
	if l.rate <= 0 {
		return 0
	}
	at := time.Duration((end - l.carried) / float64(l.rate) * float64(time.Second))
	return at - time.Since(l.since)
}
