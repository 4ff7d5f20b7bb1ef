package fetch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

// slowTail answers every n-th request a second late.
func slowTail(nth int) *origin {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		if o.total()%nth == 0 {
			if err := sleep(ctx, time.Second); err != nil {
				return nil, err
			}
		}
		return o.good(w)
	}
	return o
}

func TestHedge(t *testing.T) {
	o := slowTail(50)
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		start := time.Now()
		for i := range 1000 {
			one := time.Now()
			get(t, q, want(i, store.Demand))
			if d := time.Since(one); d > 100*time.Millisecond {
				t.Errorf("request %d took %v", i, d)
			}
		}
		synctest.Wait() // for the losers
		s := q.Stats()
		if s.HedgesWon < 15 || s.HedgesWon != s.Hedges {
			t.Errorf("%d hedges, %d won, in %v", s.Hedges, s.HedgesWon, time.Since(start))
		}
		if o.ended != int(s.HedgesWon) {
			t.Errorf("%d requests were cancelled, want %d, the losers", o.ended, s.HedgesWon)
		}
	})
}

func TestHedgeIsBounded(t *testing.T) {
	o := slowTail(4) // more than one in twenty can mend
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		for i := range 1000 {
			get(t, q, want(i, store.Demand))
		}
		if n := q.Stats().Hedges; n > 51 {
			t.Errorf("%d hedges for 1000 requests, want one in twenty at most", n)
		}
	})
}

// Where another request was not allowed when it was due, it is when the reason
// has gone.
func TestHedgeLater(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(ctx context.Context, w store.Want, n int) (*store.Chunk, error) {
		switch {
		case n > 1:
		case w.ID == want(500, 0).ID: // never comes
			<-ctx.Done()
			return nil, context.Cause(ctx)
		case w.ID == want(501, 0).ID:
			return nil, &store.BusyError{Err: errors.New("503")}
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		for i := range 100 { // which earns some
			get(t, q, want(i, store.Demand))
		}
		get(t, q, want(501, store.Demand)) // for two seconds there is none now
		start := time.Now()
		get(t, q, want(500, store.Demand))
		if d := time.Since(start); d < 1500*time.Millisecond || d > 5*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestHedgeIsForDemand(t *testing.T) {
	o := slowTail(50)
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		for i := range 200 {
			get(t, q, want(i, store.ReadAhead))
		}
		if n := q.Stats().Hedges; n != 0 {
			t.Errorf("%d hedges for background", n)
		}
	})
}

// The second request's answer is corrupt: the first one's counts.
func TestHedgeCorrupt(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(ctx context.Context, w store.Want, n int) (*store.Chunk, error) {
		switch n {
		case 1:
			if err := sleep(ctx, 2*time.Second); err != nil {
				return nil, err
			}
		case 2:
			return o.chunk(w, content(666, w.Size)), nil
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		get(t, q, want(1, store.Demand))
		if n := o.requests(want(1, 0)); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestNoHedge(t *testing.T) {
	o := slowTail(50)
	run(t, o, fetch.Options{NoHedge: true}, func(t *testing.T, q *fetch.Queue) {
		for i := range 200 {
			get(t, q, want(i, store.Demand))
		}
		if n := q.Stats().Hedges; n > 0 || o.total() != 200 {
			t.Errorf("%d hedges, %d requests", n, o.total())
		}
	})
}
