package fetch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"caravel/store"
)

const (
	firstRest       = 20 * time.Millisecond // before the second try, if nobody says it
	lastRest        = 5 * time.Second
	backgroundTries = 8 // some 2.5 s

	// mostSpoilt is how many corrupt answers are not the last word on a chunk. Of
	// a line that spoils one answer in fifty, one chunk in 2,500 comes spoilt
	// twice, which is one in each larger image; one in six million four times.
	mostSpoilt = 3

	// What a BusyError can make the queue wait, at most.
	longestPause      = 30 * time.Second
	longestPauseShort = 200 * time.Millisecond // of demand
)

// fail takes an answer that is an error: f ends with it, waits for its other
// request, or tries again.
func (q *Queue) fail(f *flight, err error, now time.Time) {
	f.last = err
	rest := max(q.restAfter(f.tries), patience(err))
	switch {
	case store.Final(err):
		if f.spoilt == mostSpoilt || !errors.Is(err, store.ErrCorrupt) {
			q.giveUp(f, err, now)
			return
		}
		if f.spoilt++; f.spoilt == 1 {
			rest = 0
		}
	case isBusy(err):
		q.window.refused(now)
		q.hedges.refused(now)
		q.pause(patience(err), now)
	}
	if len(f.attempts) > 0 {
		f.state = flying
		q.arm(f)
		return
	}
	if most := q.mostTries(f.class); most > 0 && f.tries >= most {
		q.giveUp(f, err, now)
		return
	}
	f.state = resting
	f.wake = now.Add(rest)
	q.arm(f)
	q.counts[f.class].Retries++
	q.failed(err, now)
	q.note("fetch is tried again", f, err, now)
}

// mostTries is how often a flight of class c may ask; 0: until its time is over.
func (q *Queue) mostTries(c store.Class) int {
	switch {
	case c == store.Demand:
		return q.opt.Tries
	case q.opt.Tries > 0:
		return min(q.opt.Tries, backgroundTries)
	}
	return backgroundTries
}

// restAfter is how long to wait after so many tries: twice as long after each,
// more or less, so that those who failed together do not come back together.
// The first rest is short: most faults are gone at once.
func (q *Queue) restAfter(tries int) time.Duration {
	most := max(lastRest, q.opt.Rest)
	d, shift := most, min(tries-1, 16)
	if q.opt.Rest <= most>>shift {
		d = q.opt.Rest << shift
	}
	return d/2 + rand.N(d)
}

func isBusy(err error) bool {
	var busy *store.BusyError
	return errors.As(err, &busy)
}

// patience is how long the origin asked to wait; 0: it did not.
func patience(err error) time.Duration {
	var busy *store.BusyError
	if errors.As(err, &busy) {
		return max(busy.After, 0)
	}
	return 0
}

// pause holds new requests back for an origin that asked for patience: those of
// demand only a little, since each that it refuses waits as told anyway.
func (q *Queue) pause(after time.Duration, now time.Time) {
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
	switch {
	case cause != nil:
	case q.outage.err != nil: // it stood in line behind those who know why
		cause = fmt.Errorf("no answer; to another request: %w", q.outage.err)
	default:
		cause = errors.New("no answer")
	}
	err := f.explain(cause, now)
	q.counts[f.class].Failed++
	q.note("fetch is given up", f, cause, now)
	q.finish(f, err)
}

func (f *flight) explain(cause error, now time.Time) error {
	if errors.Is(cause, store.ErrMissing) || errors.Is(cause, store.ErrCorrupt) {
		return cause // names the chunk, and is the same text for every read
	}
	took := now.Sub(f.since).Round(time.Millisecond)
	if f.tries == 1 {
		return fmt.Errorf("fetch: chunk %s: 1 try in %s: %w", f.id, took, cause)
	}
	return fmt.Errorf("fetch: chunk %s: %d tries in %s: %w", f.id, f.tries, took, cause)
}

func stalled(d time.Duration) error {
	return fmt.Errorf("no answer within %s", d.Round(time.Millisecond))
}
