package fetch

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"caravel/store"
)

const (
	firstRest       = 20 * time.Millisecond // before the second try
	lastRest        = 5 * time.Second
	backgroundTries = 6
	corruptTries    = 2

	// What a BusyError can make the queue wait, at most.
	longestPause      = 30 * time.Second
	longestPauseShort = 200 * time.Millisecond // of demand
)

// fail takes an answer that is an error: f ends with it, waits for its other
// request, or tries again.
func (q *Queue) fail(f *flight, err error, now time.Time) {
	f.last = err
	rest := restAfter(f.tries)
	var busy *store.BusyError
	switch {
	case errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrRefused):
		q.giveUp(f, err, now)
		return
	case errors.Is(err, store.ErrCorrupt):
		if f.corrupt++; f.corrupt >= corruptTries {
			q.giveUp(f, err, now)
			return
		}
		rest = 0
	case errors.As(err, &busy):
		q.pause(busy.After, now)
		rest = max(rest, busy.After)
	}
	if len(f.flights) > 0 {
		f.state = flying
		q.arm(f)
		return
	}
	if f.class != store.Demand && f.tries >= backgroundTries {
		q.giveUp(f, err, now)
		return
	}
	f.state = resting
	f.wake = now.Add(rest)
	q.arm(f)
	q.counts[f.class].Retries++
	q.note(slog.LevelDebug, "fetch is tried again", f, err, now)
}

// restAfter is how long to wait after so many tries: three times as long after
// each, more or less, so that those who failed together do not come back
// together. The first rest is short: most faults are gone at once.
func restAfter(tries int) time.Duration {
	d := firstRest
	for i := 1; i < tries && d < lastRest; i++ {
		d *= 3
	}
	d = min(d, lastRest)
	return d/2 + rand.N(d)
}

// pause holds new requests back for an origin that asked for patience: those of
// demand only a little, since each that it refuses waits as told anyway.
func (q *Queue) pause(after time.Duration, now time.Time) {
	q.window.refused(now)
	if after <= 0 {
		return
	}
	q.pauseDemand = later(q.pauseDemand, now.Add(min(after, longestPauseShort)))
	q.pauseOthers = later(q.pauseOthers, now.Add(min(after, longestPause)))
	q.ringAt(q.pauseDemand)
	q.ringAt(q.pauseOthers)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// giveUp ends f with an error that says how it was tried.
func (q *Queue) giveUp(f *flight, cause error, now time.Time) {
	if cause == nil {
		cause = errors.New("no answer")
	}
	err := f.explain(cause, now)
	q.counts[f.class].Failed++
	level := slog.LevelDebug
	if f.class == store.Demand && !errors.Is(err, store.ErrMissing) && q.firstWarning(f.key) {
		level = slog.LevelWarn
	}
	q.note(level, "fetch is given up", f, cause, now)
	q.finish(f, err)
}

func (f *flight) explain(cause error, now time.Time) error {
	named := errors.Is(cause, store.ErrMissing) || errors.Is(cause, store.ErrCorrupt)
	took := now.Sub(f.since).Round(time.Millisecond)
	switch {
	case named && f.tries == 1:
		return cause
	case named:
		return fmt.Errorf("fetch: %d tries in %s: %w", f.tries, took, cause)
	case f.tries == 1:
		return fmt.Errorf("fetch: chunk %s: 1 try in %s: %w", f.id, took, cause)
	}
	return fmt.Errorf("fetch: chunk %s: %d tries in %s: %w", f.id, f.tries, took, cause)
}

// firstWarning reports whether k is new among the chunks that were given up. A
// chunk that is fetched after all may be warned of again.
func (q *Queue) firstWarning(k key) bool {
	const enough = 4096 // by then the log has said it
	if _, ok := q.warned[k]; ok || len(q.warned) >= enough {
		return false
	}
	q.warned[k] = struct{}{}
	return true
}

func stalled(d time.Duration) error {
	return fmt.Errorf("no answer within %s", d.Round(time.Millisecond))
}
