package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"
)

// Retry asks s again, after rests that grow, unless the error is [Final]. It is
// for stores that give up soon, such as several in a Router. It gives up after
// timeout (negative: never), a request under way included, and asks once only
// for what nobody waits for.
func Retry(s Store, timeout time.Duration) Store { return &retry{Store: s, timeout: timeout} }

// RetryWriter is Retry for a store that is written to, with no queue before it that
// would ask again: it also waits as long as a [BusyError] says, within timeout, does
// not wait for a host whose name nobody knows, and says once, after a while, what it
// waits for. A nil log is silent.
func RetryWriter(w Writer, timeout time.Duration, log *slog.Logger) Writer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &retryWriter{retry{Store: w, timeout: timeout, alone: true, log: log}, w}
}

type retry struct {
	Store
	timeout time.Duration
	alone   bool         // nobody behind it does what else there is to do
	log     *slog.Logger // if alone
	said    atomic.Bool  // that something is tried again
}

// silence is how long whoever waits is not told for what.
const silence = 2 * time.Second

type retryWriter struct {
	retry
	writer Writer
}

func (r *retryWriter) Put(ctx context.Context, c *Chunk) error {
	return r.again(ctx, Demand, func(ctx context.Context) error { return r.writer.Put(ctx, c) })
}

func (r *retryWriter) Sync(ctx context.Context) error {
	return r.again(ctx, Demand, r.writer.Sync)
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
		if err == nil || Final(err) || r.alone && mistyped(err) {
			return err
		}
		if last == nil || limited.Err() == nil { // else what was said before tells more
			last = err
		}
		pause := rest/2 + rand.N(rest)
		if busy := (*BusyError)(nil); r.alone && errors.As(err, &busy) {
			pause = max(pause, busy.After)
		}
		if took := time.Since(began); r.timeout >= 0 && took+pause > r.timeout {
			if tries == 1 {
				return last
			}
			return fmt.Errorf("%d tries in %s: %w", tries, took.Round(time.Millisecond), last)
		} else if r.alone && took+pause > silence && !r.said.Swap(true) {
			r.log.Warn("trying again until the time is over", "timeout", r.timeout, "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// mistyped reports whether a host is not there by that name.
func mistyped(err error) bool {
	dns := (*net.DNSError)(nil)
	return errors.As(err, &dns) && dns.IsNotFound
}
