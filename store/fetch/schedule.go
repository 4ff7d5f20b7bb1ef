package fetch

import (
	"context"
	"slices"
	"time"

	"caravel/store"
)

// dispatch starts what may start, the most urgent first, until one is refused.
func (q *Queue) dispatch() {
	if q.closed {
		return
	}
	now := time.Now()
	for class := range q.queued {
		for q.queued[class].n > 0 {
			f := q.queued[class].first
			if !q.admits(f, now) {
				return
			}
			q.queued[class].remove(f)
			q.start(f, now)
		}
	}
}

// admits reports whether f may ask the origin now, and tells the window if its
// size was the reason why not.
func (q *Queue) admits(f *flight, now time.Time) bool {
	if f.class == store.Demand {
		// Background waits for a core too; it must not hold demand back.
		if now.Before(q.pauseDemand) || q.held >= 2*q.opt.Held {
			return false
		}
		ok := q.flying[store.Demand] < q.window.demand()
		q.window.press(!ok)
		return ok
	}
	if now.Before(q.pauseOthers) || q.held >= q.opt.Held {
		return false
	}
	others := q.inFlight() - q.flying[store.Demand]
	bounded := q.opt.Background > 0
	room := others == 0 || q.background < q.backgroundBytes()
	if bounded {
		room = others == 0 || q.background+q.sizes.guess(f.size) <= q.opt.Background
	}
	if q.demanding(now) {
		few := others < q.window.yielding()
		q.window.squeeze(!few)
		return few && (room || !bounded) && q.inFlight() < q.opt.MaxWindow
	}
	slot := q.inFlight() < q.window.background()
	q.window.press(!slot || !room && !bounded)
	return slot && room
}

// demanding reports whether somebody waits for what nobody had asked for
// before, or has just done so and may be back at once. Who has caught up with
// his own read-ahead is not helped by less of it.
func (q *Queue) demanding(now time.Time) bool {
	return q.queued[store.Demand].n > 0 || q.fresh > 0 || now.Before(q.calm)
}

// backgroundBytes is how many bytes background may have in flight.
func (q *Queue) backgroundBytes() int64 {
	if q.opt.Background > 0 {
		return q.opt.Background
	}
	return int64(q.window.fill() * q.sizes.mean)
}

func (q *Queue) inFlight() (n int) {
	for _, m := range q.flying {
		n += m
	}
	return n
}

// count adds n requests of f to what is in flight.
func (q *Queue) count(f *flight, n int) {
	q.flying[f.class] += n
	switch {
	case f.class != store.Demand:
		q.background += int64(n) * f.bytes
	case f.fresh:
		q.fresh += n
	}
}

// start begins a try of f.
func (q *Queue) start(f *flight, now time.Time) {
	if f.since.IsZero() {
		f.since = now
	}
	f.state = flying
	f.tries++
	f.sent = now
	f.bytes = q.sizes.guess(f.size)
	if f.class == store.Demand {
		q.hedges.earn()
		if f.fresh && q.window.clogged {
			q.makeWay()
		}
	}
	q.ask(f, now, false)
	q.planHedge(f, now)
	q.arm(f)
}

// ask sends one request for f.
func (q *Queue) ask(f *flight, now time.Time, hedge bool) {
	ctx, cancel := context.WithCancelCause(q.life)
	a := &attempt{flight: f, ctx: ctx, sent: now, hedge: hedge, cancel: cancel}
	a.want = store.Want{ID: f.id, Size: f.size, Digest: f.digest, Class: f.class}
	if q.opt.Try > 0 {
		a.until = now.Add(q.opt.Try << min(f.stalls, 10))
	}
	f.attempts = append(f.attempts, a)
	q.count(f, 1)
	q.counts[f.class].Requests++
	q.wg.Add(1)
	q.begun = append(q.begun, a) // see unlock
}

// makeWay puts what background had in flight when the link got clogged, beyond
// what it may have now, back into its line. The last requests are cancelled
// first: of their answers least is on its way.
func (q *Queue) makeWay() {
	excess := q.inFlight() - q.flying[store.Demand] - q.window.yielding()
	if excess <= 0 {
		return
	}
	var under []*flight
	for _, f := range q.flights {
		if f.state == flying && f.class != store.Demand && f.sent.Before(q.window.braked) {
			under = append(under, f)
		}
	}
	slices.SortFunc(under, func(f, g *flight) int { return g.sent.Compare(f.sent) })
	for _, f := range under[:min(excess, len(under))] {
		for _, a := range f.attempts {
			a.cancel(errMadeWay)
		}
		q.count(f, -len(f.attempts))
		q.madeWay += int64(len(f.attempts))
		f.attempts, f.hedgeAt = nil, time.Time{}
		f.tries--
		f.state = queued
		q.queued[f.class].pushFront(f)
		q.arm(f)
	}
}

// sizes learns how big chunks are on the wire.
type sizes struct {
	mean  float64 // bytes of one
	ratio float64 // of what came to what it unpacks to
}

func newSizes() sizes { return sizes{mean: 64 << 10, ratio: 1} }

func (s *sizes) add(plain, came int) {
	s.mean += (float64(came) - s.mean) / 16
	if plain > 0 {
		s.ratio += (min(1, float64(came)/float64(plain)) - s.ratio) / 16
	}
}

// guess is how many bytes a chunk of the given plain size (0: unknown) will
// come as.
func (s *sizes) guess(plain int) int64 {
	if plain <= 0 {
		return int64(s.mean)
	}
	return int64(s.ratio * float64(plain))
}
