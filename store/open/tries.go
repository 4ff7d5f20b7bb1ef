package open

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"caravel/store"
)

// The pauses between tries: the first one, and the longest.
const (
	firstPause   = 100 * time.Millisecond // if nobody says it
	longestPause = 5 * time.Second

	// patience is how long to try in silence: after that, whoever waits shall
	// know for what. It may be a mistyped address.
	patience = 2 * time.Second
)

// tries are attempts at one thing, until one of them works or the time is over.
type tries struct {
	ctx     context.Context // of the one who waits
	timeout time.Duration   // without progress; < 0: for ever
	most    int             // without progress; 0: any number
	first   time.Duration   // pause before the second one
	log     *slog.Logger

	count int       // since there was progress
	since time.Time // of the first of them
	pause time.Duration
	took  time.Duration // by the last of them
	said  bool          // that it is tried again
}

func newTries(ctx context.Context, opt Options) tries {
	t := tries{ctx: ctx, timeout: cmp.Or(opt.Timeout, time.Minute), most: opt.Tries, first: max(cmp.Or(opt.Pause, firstPause), 2), log: opt.Log}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.progress()
	return t
}

// progress forgets earlier tries.
func (t *tries) progress() { t.count, t.since, t.pause = 0, time.Now(), t.first }

// try is one attempt.
func (t *tries) try(f func() error) error {
	began := time.Now()
	t.count++
	err := f()
	t.took = time.Since(began)
	return err
}

// rest waits before the next try, or returns err if that is of no use.
func (t *tries) rest(err error) error {
	if t.ctx.Err() != nil {
		return err
	}
	if store.Final(err) {
		return err
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return err // a mistyped name; of a host that was there before, fetch asks again
	}
	wait := t.pause/2 + rand.N(t.pause/2)
	if busy := (*store.BusyError)(nil); errors.As(err, &busy) {
		wait = max(wait, busy.After)
	}
	// A server that did not answer will take as long to do so again.
	tried := time.Since(t.since)
	if t.most > 0 && t.count >= t.most || t.timeout >= 0 && tried+wait+t.took > t.timeout {
		return fmt.Errorf("%w (tried %d times in %v)", err, t.count, tried.Round(time.Millisecond))
	}
	if !t.said && tried > patience {
		t.said = true
		t.log.Warn("asking again until the time is over", "timeout", t.timeout, "err", err)
	}
	select {
	case <-time.After(wait):
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
	t.pause = min(2*t.pause, max(longestPause, t.first))
	return nil
}
