package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry asks s again, after rests that grow, unless the error is [Final]. It is
// for stores that give up soon, such as several in a Router. It gives up after
// timeout (negative: never), a request under way included, and asks once only
// for what nobody waits for.
func Retry(s Store, timeout time.Duration) Store { return &retry{s, timeout} }

type retry struct {
	Store
	timeout time.Duration
}

// The rests between two tries, more or less.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

func (r *retry) Get(ctx context.Context, want Want) (c *Chunk, err error) {
	err = r.again(ctx, want.Class, func(ctx context.Context) error {
		c, err = r.Store.Get(ctx, want)
		return err
	})
	return c, err
}

func (r *retry) Has(ctx context.Context, want Want) (ok bool, err error) {
	err = r.again(ctx, want.Class, func(ctx context.Context) error {
		ok, err = r.Store.Has(ctx, want)
		return err
	})
	return ok, err
}

// again calls f until it returns nil or an error that is final.
func (r *retry) again(ctx context.Context, class Class, f func(context.Context) error) error {
	if class != Demand {
		return f(ctx)
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if r.timeout > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("no answer in %s", r.timeout))
	}
	defer cancel()
	var last error
	began := time.Now()
	for tries, rest := 1, firstRetry; ; tries, rest = tries+1, min(2*rest, lastRetry) {
		err := f(limited)
		if err == nil || Final(err) {
			return err
		}
		if last == nil || limited.Err() == nil { // else what was said before tells more
			last = err
		}
		pause := rest/2 + rand.N(rest)
		if took := time.Since(began); r.timeout >= 0 && took+pause > r.timeout {
			if tries == 1 {
				return last
			}
			return fmt.Errorf("%d tries in %s: %w", tries, took.Round(time.Millisecond), last)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
