package fetch

import (
	"slices"
	"time"

	"caravel/store"
)

// hedges bounds the further requests for one chunk: each one in twenty of
// demand earns another.
type hedges struct {
	budget    float64
	sent, won int64
	not       time.Time // before that there are none
}

const (
	hedgeShare    = 0.05
	mostHedges    = 8                     // that can be saved up
	mostAtOnce    = 3                     // requests for one chunk
	hedgeAtLeast  = 20 * time.Millisecond // below, a second request is not faster
	hedgeUnknown  = time.Second           // before enough is known of the origin
	hedgeAfter    = 3                     // times the median, where more than one in twenty are slow
	hedgeNot      = 2 * time.Second       // after a refusal
	latenciesKept = 64
)

func (h *hedges) earn() { h.budget = min(h.budget+hedgeShare, mostHedges) }

// refused notes that the origin has too much to do as it is.
func (h *hedges) refused(now time.Time) { h.not = now.Add(hedgeNot) }

// planHedge sets when f is asked for once more: when it is slower than nineteen
// in twenty were, and than twice what the way there and back takes, counted from
// its last request, or the first one if demand has joined it just now.
func (q *Queue) planHedge(f *flight, from time.Time) {
	f.hedgeAt = time.Time{}
	if q.opt.NoHedge || f.class != store.Demand || f.has || len(f.attempts) >= mostAtOnce {
		return
	}
	after := hedgeUnknown
	if q.times.slow > 0 {
		after = max(q.times.slow, 2*q.window.base, hedgeAtLeast)
	}
	f.hedgeAt = from.Add(after)
}

// hedge asks for f once more, if the budget and the window allow it. Where all
// requests are slow, another one is no help. What is not allowed now may be
// later, when f has waited twice as long.
func (q *Queue) hedge(f *flight, now time.Time) {
	if q.hedges.budget < 1 || q.window.clogged || q.queued[store.Demand].n > 0 ||
		now.Before(q.pauseDemand) || now.Before(q.hedges.not) || q.flying[store.Demand] >= q.window.demand() {
		f.hedgeAt = now.Add(max(now.Sub(f.sent), hedgeAtLeast))
		return
	}
	q.hedges.budget--
	q.hedges.sent++
	q.ask(f, now, true)
	q.planHedge(f, now)
}

// times keeps how long the last requests took.
type times struct {
	last [latenciesKept]time.Duration
	n    int // of all that were seen
	p95  time.Duration
	slow time.Duration // what takes longer is hedged; 0: not known
}

func (t *times) add(d time.Duration) {
	t.last[t.n%latenciesKept] = d
	t.n++
	if t.n%(latenciesKept/4) == 0 {
		sorted := t.last
		seen := sorted[:min(t.n, latenciesKept)]
		slices.Sort(seen)
		t.p95 = seen[len(seen)*95/100]
		t.slow = min(t.p95, hedgeAfter*seen[len(seen)/2])
	}
}
