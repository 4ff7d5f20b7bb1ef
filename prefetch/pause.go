package prefetch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"caravel/store"
)

// The time between a failure and the next request: it doubles from the one to
// the other while nothing comes.
const (
	shortPause = time.Second
	longPause  = time.Minute
)

// A pause holds off the requests of a sweep after failures.
type pause struct {
	mu     sync.Mutex // guards what follows
	until  time.Time
	length time.Duration // of the last one; 0: none since the last success
}

// begin lengthens the pause for a request that began at a time and failed. The
// others that were under way then are the same failure.
func (p *pause) begin(began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if began.Before(p.until) {
		return
	}
	p.length = min(max(2*p.length, shortPause), longPause)
	if busy := (*store.BusyError)(nil); errors.As(err, &busy) {
		p.length = max(p.length, busy.After)
	}
	jitter := time.Duration(rand.Int64N(int64(p.length / 4)))
	p.until = time.Now().Add(p.length + jitter)
}

// end forgets the failures.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.length = 0
}

// wait returns when a request may be made, or false when ctx has ended.
func (p *pause) wait(ctx context.Context) bool {
	for {
		p.mu.Lock()
		rest := time.Until(p.until)
		p.mu.Unlock()
		if rest <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return false
		}
	}
}
