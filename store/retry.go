package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry asks s again, after rests that grow, as long as what went wrong may
// pass: anything but a missing or corrupt chunk and a refusal. It is for stores
// that give up soon, such as several in a Router. It gives up after timeout
// (negative: never), and asks once only for what nobody waits for.
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
	err = r.again(ctx, want.Class, func() error {
		c, err = r.Store.Get(ctx, want)
		return err
	})
	return c, err
}

func (r *retry) Has(ctx context.Context, want Want) (ok bool, err error) {
	err = r.again(ctx, want.Class, func() error {
		ok, err = r.Store.Has(ctx, want)
		return err
	})
	return ok, err
}

// again calls f until it returns nil or an error that is final.
func (r *retry) again(ctx context.Context, class Class, f func() error) error {
	began := time.Now()
	for tries, rest := 1, firstRetry; ; tries, rest = tries+1, min(2*rest, lastRetry) {
		err := f()
		if err == nil || class != Demand || answered(err) || errors.Is(err, ErrRefused) {
			return err
		}
		pause := rest/2 + rand.N(rest)
		if took := time.Since(began); r.timeout >= 0 && took+pause > r.timeout {
			return fmt.Errorf("%d tries in %s: %w", tries, took.Round(time.Millisecond), err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
