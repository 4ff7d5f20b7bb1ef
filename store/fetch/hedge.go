package fetch

import (
	"slices"
	"time"

	"caravel/store"
)

// hedges bounds the second requests: each one in twenty of demand earns
// another.
type hedges struct {
	budget    float64
	sent, won int64
}

const (
	hedgeShare    = 0.05
	mostHedges    = 8                     // that can be saved up
	hedgeAtLeast  = 20 * time.Millisecond // below, a second request is not faster
	hedgeUnknown  = time.Second           // before enough is known of the origin
	latenciesKept = 64
)

func (h *hedges) earn() { h.budget = min(h.budget+hedgeShare, mostHedges) }

// planHedge sets when f is asked for a second time: when it is slower than
// nineteen in twenty were, and than twice what the way there and back takes.
func (q *Queue) planHedge(f *flight) {
	f.hedgeAt = time.Time{}
	if f.class != store.Demand || f.has || len(f.attempts) != 1 {
		return
	}
	after := hedgeUnknown
	if q.times.p95 > 0 {
		after = max(q.times.p95, 2*q.window.base, hedgeAtLeast)
	}
	f.hedgeAt = f.sent.Add(after)
}

// hedge asks for f a second time, if the budget and the window allow it.
func (q *Queue) hedge(f *flight, now time.Time) {
	f.hedgeAt = time.Time{}
	if q.hedges.budget < 1 || q.queued[store.Demand].n > 0 || now.Before(q.pauseDemand) ||
		q.flying[store.Demand] >= q.window.demand() {
		return
	}
	q.hedges.budget--
	q.hedges.sent++
	q.ask(f, now, true)
}

// times keeps how long the last requests took.
type times struct {
	last [latenciesKept]time.Duration
	n    int // of all that were seen
	p95  time.Duration
}

func (t *times) add(d time.Duration) {
	t.last[t.n%latenciesKept] = d
	t.n++
	if t.n%(latenciesKept/4) == 0 {
		sorted := t.last
		seen := sorted[:min(t.n, latenciesKept)]
		slices.Sort(seen)
		t.p95 = seen[len(seen)*95/100]
	}
}
