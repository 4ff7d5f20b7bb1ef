package fetch

import (
	"context"
	"log/slog"
	"time"

	"caravel/store"
)

// Stats says what a queue does now, and what it has done.
type Stats struct {
	Window     int           // requests that may be in flight for demand
	Background int64         // bytes that may be in flight for all else
	InFlight   int           // requests
	Queued     int           // flights that wait for a slot
	Held       int64         // bytes that wait to be decoded
	Latency    time.Duration // of a request on an idle link; 0: not known
	P95        time.Duration // of the last requests; 0: not known
	Hedges     int64         // further requests for one chunk
	HedgesWon  int64         // that were answered first
	MadeWay    int64         // requests of background that were cancelled for demand

	Class [store.Classes]Counts // each by what it was when it was counted
}

// Counts says what was done for one class.
type Counts struct {
	Requests  int64 // to the origin, with retries and hedges
	Chunks    int64 // fetched and verified
	Stored    int64 // bytes that came
	Plain     int64 // bytes of Chunks
	Joined    int64 // callers who found their chunk on its way
	Upgraded  int64 // of those, for whom it was hurried along
	Cancelled int64 // dropped because nobody waited any more
	Retries   int64
	Failed    int64 // ended in an error
}

// Stats may be called at any time.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.unlock()
	s := Stats{
		Window:     q.window.demand(),
		Background: q.backgroundBytes(),
		InFlight:   q.inFlight(),
		Held:       q.held,
		Latency:    q.window.base,
		P95:        q.times.p95,
		Hedges:     q.hedges.sent,
		HedgesWon:  q.hedges.won,
		MadeWay:    q.madeWay,
		Class:      q.counts,
	}
	for _, l := range q.queued {
		s.Queued += l.n
	}
	return s
}

// A note is a line for the log, kept until the lock is free.
type note struct {
	level slog.Level
	text  string
	attrs []slog.Attr
}

func (q *Queue) note(text string, f *flight, err error, now time.Time) {
	q.notes = append(q.notes, note{slog.LevelDebug, text, []slog.Attr{
		slog.String("chunk", f.id.String()),
		slog.String("class", f.class.String()),
		slog.Int("tries", f.tries),
		slog.Duration("dur", now.Sub(f.since)),
		slog.Any("err", err),
	}})
}

// An outage is the time since the origin last gave a chunk, once it has failed
// to. It passes on what no caller hears as long as the queue tries again.
type outage struct {
	since time.Time // zero: there is none
	err   error     // why, the last time
	said  bool
}

// longOutage is how long a person shall wait without being told why.
const longOutage = 5 * time.Second

// failed takes note of an error after which the origin is asked again.
func (q *Queue) failed(err error, now time.Time) {
	q.outage.err = err
	switch {
	case q.outage.since.IsZero():
		q.outage.since = now
	case !q.outage.said && now.Sub(q.outage.since) > longOutage:
		q.outage.said = true
		q.notes = append(q.notes, note{slog.LevelWarn, "no chunk comes, asking again", []slog.Attr{slog.Any("err", err)}})
	}
}

// answered takes note of a chunk that came.
func (q *Queue) answered(now time.Time) {
	if q.outage.said {
		q.notes = append(q.notes, note{slog.LevelInfo, "chunks come again", []slog.Attr{slog.Duration("dur", now.Sub(q.outage.since))}})
	}
	q.outage = outage{}
}

// unlock releases the lock, after it has given the requests that were begun under it
// goroutines, and then writes what came up under it to the log.
func (q *Queue) unlock() {
	for a := q.firstBegun(); a != nil; a = q.firstBegun() {
		go q.fly(a)
	}
	notes := q.notes
	q.notes = nil
	q.mu.Unlock()
	for _, n := range notes {
		q.opt.Log.LogAttrs(context.Background(), n.level, n.text, n.attrs...)
	}
}
