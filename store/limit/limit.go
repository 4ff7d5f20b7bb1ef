// Package limit holds what a process does with stores to so many bytes a second, and to
// so many requests at a time to one host.
//
// A [Bucket] or a [Slots] that is shared counts for all that share it: a process that
// may take 10 MB a second has one Bucket of that, in front of whatever it opens.
//
//	whole := limit.NewBucket(10_000_000)
//	b = limit.Blobs(b, limit.Limits{Down: []*limit.Bucket{whole}})
//
// Bytes that come are counted when they are here, so a reader gets them later and the
// connection's own flow control slows the sender down; the store's clocks, which run
// while somebody waits for bytes, do not run meanwhile.
package limit

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Limits are those of one store. The zero value has none.
type Limits struct {
	Down, Up []*Bucket // all of them count
	Requests *Slots    // nil: any number of requests
}

func (l Limits) none() bool { return len(l.Down) == 0 && len(l.Up) == 0 && l.Requests == nil }

// With adds the limits of m; of two numbers of requests m's counts.
func (l Limits) With(m Limits) Limits {
	l.Down = append(l.Down[:len(l.Down):len(l.Down)], m.Down...)
	l.Up = append(l.Up[:len(l.Up):len(l.Up)], m.Up...)
	if m.Requests != nil {
		l.Requests = m.Requests
	}
	return l
}

// A Bucket is a number of bytes a second. Its methods may be called from many
// goroutines.
type Bucket struct{ tokens *rate.Limiter }

// NewBucket makes a Bucket of some bytes a second, more than 0. What goes through at
// once, after a rest, is an eighth of a second's, but no less than 4 KiB.
func NewBucket(bytesPerSecond int64) *Bucket {
	const least, most = 4 << 10, 1 << 20
	return &Bucket{rate.NewLimiter(rate.Limit(bytesPerSecond), int(min(max(bytesPerSecond/8, least), most)))}
}

// take waits until n bytes may pass.
func (b *Bucket) take(ctx context.Context, n int) error {
	for n > 0 {
		part := min(n, b.tokens.Burst())
		// Not WaitN, which gives up at once where a deadline would pass meanwhile:
		// that the time was over is for the deadline to say.
		r := b.tokens.ReserveN(time.Now(), part)
		if wait := r.Delay(); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				r.Cancel()
				return context.Cause(ctx)
			}
		}
		n -= part
	}
	return nil
}

func take(ctx context.Context, buckets []*Bucket, n int) error {
	for _, b := range buckets {
		if err := b.take(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Slots are so many requests at a time.
type Slots struct{ free chan struct{} }

// NewSlots makes Slots for n requests, more than 0.
func NewSlots(n int) *Slots { return &Slots{make(chan struct{}, n)} }

// enter waits for a slot; leave gives it back.
func (s *Slots) enter(ctx context.Context) (leave func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	select {
	case s.free <- struct{}{}:
		return func() { <-s.free }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
