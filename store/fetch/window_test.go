package fetch_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

const kib = 1 << 10

// sweep keeps the queue full of requests of a class until the function that it
// returns is called.
func sweep(t *testing.T, q *fetch.Queue, class store.Class, size int) (stop func()) {
	var wg sync.WaitGroup
	var next atomic.Int64
	var over atomic.Bool
	next.Store(1 << 20)
	for range 256 {
		wg.Go(func() {
			for !over.Load() {
				get(t, q, wanted(int(next.Add(1)), size, class))
			}
		})
	}
	return func() {
		over.Store(true)
		wg.Wait()
	}
}

func TestWindowGrows(t *testing.T) {
	for _, class := range []store.Class{store.Demand, store.Sweep} {
		t.Run(class.String(), func(t *testing.T) {
			o := &origin{latency: 20 * time.Millisecond}
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				stop := sweep(t, q, class, small)
				time.Sleep(200 * time.Millisecond)
				if n := q.Stats().InFlight; n < 64 {
					t.Errorf("%d in flight after 200 ms, want 64 or more", n)
				}
				time.Sleep(time.Second)
				if n := q.Stats().Window; n < 100 {
					t.Errorf("window %d after 1.2 s, want 100 or more", n)
				}
				stop()
				if o.top > 128 {
					t.Errorf("%d in flight", o.top)
				}
			})
		})
	}
}

// At 100 Mbit/s and 20 ms some 6 chunks of 40 KiB are under way; scaled down by
// 10 here, to hash less.
func narrow() *origin {
	return &origin{latency: 20 * time.Millisecond, link: link{rate: 1.25e6}}
}

func TestWindowStaysSmall(t *testing.T) {
	o := narrow()
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, 4*kib)
		time.Sleep(3 * time.Second)
		before := q.Stats()
		time.Sleep(3 * time.Second)
		after := q.Stats()
		stop()
		if o.top > 24 { // while it starts
			t.Errorf("up to %d in flight, want 24 at most", o.top)
		}
		rate := float64(after.Class[store.Sweep].Stored-before.Class[store.Sweep].Stored) / 3
		if rate < 0.95*o.link.rate {
			t.Errorf("the link is used at %.0f %%", 100*rate/o.link.rate)
		}
		t.Logf("window %d, at most %d in flight, latency %v, link used at %.0f %%", after.Window, o.top, after.Latency, 100*rate/o.link.rate)
	})
}

// The window comes back from one, though an answer takes a little longer than
// the fastest ones did.
func TestWindowComesBackFromOne(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{MinWindow: 1, MaxWindow: 8}, func(t *testing.T, q *fetch.Queue) {
		takes := func(latency time.Duration) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.latency = latency
		}
		stop := sweep(t, q, store.Sweep, small)
		defer stop()
		time.Sleep(60 * time.Millisecond)
		takes(200 * time.Millisecond)
		for i := 0; q.Stats().Window > 1; i++ {
			if i == 100 {
				t.Fatalf("window %d after 10 s of high latency", q.Stats().Window)
			}
			time.Sleep(100 * time.Millisecond)
		}
		takes(22 * time.Millisecond)
		time.Sleep(5 * time.Second)
		if n := q.Stats().Window; n < 8 {
			t.Errorf("window %d, want 8", n)
		}
	})
}

// A stream that has caught up with its own read-ahead does not hold it back.
func TestReadAheadBesideItsReader(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.ReadAhead, small)
		defer stop()
		most := 0
		for range 100 {
			synctest.Wait()
			o.mu.Lock()
			w := o.order[len(o.order)-1] // on its way for the read-ahead
			o.mu.Unlock()
			w.Class = store.Demand
			get(t, q, w)
			most = max(most, q.Stats().InFlight)
		}
		if most < 64 {
			t.Errorf("at most %d in flight, want 64", most)
		}
	})
}

// On a link of 1 Mbit/s the first requests of background are few: who reads right
// behind them waits for three chunks of 40 KiB and his own.
func TestSlowLinkAtTheStart(t *testing.T) {
	o := &origin{latency: 20 * ms, link: link{rate: 12.5e3}}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Profile, onTheWay)
		defer stop()
		time.Sleep(ms)
		if took := readSingly(t, q, 1, 0)[0]; took > 1700*ms {
			t.Errorf("the first read took %v", took)
		}
	})
}

// A link that is slower than one chunk per round trip gets one request.
func TestWindowOfOne(t *testing.T) {
	o := &origin{latency: 5 * time.Millisecond, link: link{rate: 125e3}}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, 8*kib) // 66 ms each
		time.Sleep(10 * time.Second)
		if n := q.Stats().InFlight; n > 4 {
			t.Errorf("%d in flight on a link for one", n)
		}
		stop()
	})
}

// An origin whose latency is all over the place, though not for our sake, is
// asked as much at once as a steady one.
func TestWindowWithJitter(t *testing.T) {
	o := &origin{latency: 10 * time.Millisecond}
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		if err := sleep(ctx, rand.N(50*time.Millisecond)); err != nil {
			return nil, err
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, small)
		time.Sleep(time.Second)
		var seen []int // now and then it is smaller for a moment
		for range 60 {
			time.Sleep(50 * time.Millisecond)
			seen = append(seen, q.Stats().Window)
		}
		stop()
		slices.Sort(seen)
		if n := seen[len(seen)/2]; n < 64 {
			t.Errorf("window %d most of the time, want 64 or more", n)
		}
	})
}

// Latency that is all over the place is no reason to drop what is under way,
// though somebody reads beside it.
func TestJitterDropsLittle(t *testing.T) {
	o := &origin{latency: 10 * ms}
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		if err := sleep(ctx, rand.N(200*ms)); err != nil {
			return nil, err
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, small)
		for i := range 100 {
			get(t, q, want(i, store.Demand))
			time.Sleep(30 * ms)
		}
		stop()
		if s := q.Stats().Class[store.Sweep]; s.Requests > s.Chunks+s.Chunks/10 {
			t.Errorf("%d requests for %d chunks", s.Requests, s.Chunks)
		}
	})
}

// The latency grows for good, and not because of us: the window comes back.
func TestWindowAfterDetour(t *testing.T) {
	for _, class := range []store.Class{store.Demand, store.Sweep} {
		t.Run(class.String(), func(t *testing.T) {
			o := &origin{latency: 2 * time.Millisecond}
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				stop := sweep(t, q, class, small)
				time.Sleep(100 * time.Millisecond)
				o.mu.Lock()
				o.latency = 50 * time.Millisecond
				o.mu.Unlock()
				time.Sleep(3 * time.Second)
				if n := q.Stats().Window; n < 64 {
					t.Errorf("window %d, want 64 or more", n)
				}
				stop()
			})
		})
	}
}

func TestFixedWindow(t *testing.T) {
	o := &origin{latency: time.Millisecond}
	run(t, o, fetch.Options{MaxWindow: 4}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Demand, kib)
		time.Sleep(time.Second)
		stop()
		if o.top != 4 || q.Stats().Window != 4 {
			t.Errorf("up to %d in flight, window %d, want 4", o.top, q.Stats().Window)
		}
	})
}

func TestBackgroundBytes(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{Background: 16 * kib}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, 4*kib)
		time.Sleep(time.Second)
		stop()
		if o.top != 4 {
			t.Errorf("up to %d requests of 4 KiB in flight, want 4", o.top)
		}
	})
}

// Reads in a series, and single ones out of nothing, while a sweep fills the
// link: what a reader waits is bounded.
func TestDemandDuringSweep(t *testing.T) {
	tests := []struct {
		name      string
		bandwidth float64 // of a link, scaled down by 10 as the chunks are
		pause     time.Duration
		p99       time.Duration
	}{
		{"1 Gbit, series", 12.5e6, 0, 45 * ms},
		{"1 Gbit, single", 12.5e6, 60 * ms, 60 * ms},
		{"100 Mbit, series", 1.25e6, 0, 60 * ms},
		{"100 Mbit, single", 1.25e6, 150 * ms, 100 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &origin{latency: 20 * time.Millisecond, link: link{rate: tt.bandwidth}}
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				const reads = 100
				stop := sweep(t, q, store.Sweep, 4*kib)
				time.Sleep(time.Second)
				var took []time.Duration
				for i := range reads {
					start := time.Now()
					get(t, q, wanted(i, 4*kib, store.Demand))
					took = append(took, time.Since(start))
					time.Sleep(tt.pause)
				}
				stop()
				slices.Sort(took)
				p99 := took[reads*99/100]
				t.Logf("p50 %v, p99 %v", took[reads/2], p99)
				if p99 > tt.p99 {
					t.Errorf("p99 %v, want %v at most", p99, tt.p99)
				}
			})
		})
	}
}

// A burst of demand finds slots, whatever background has taken.
func TestDemandFindsSlots(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{MinWindow: 8, MaxWindow: 8}, func(t *testing.T, q *fetch.Queue) {
		stop := sweep(t, q, store.Sweep, kib)
		time.Sleep(time.Second)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { get(t, q, wanted(i, kib, store.Demand)) })
		}
		synctest.Wait()
		wg.Wait()
		if d := time.Since(start); d > 20*time.Millisecond {
			t.Errorf("demand waited %v for background's slots", d-20*time.Millisecond)
		}
		stop()
	})
}

// A reader who reads one chunk after the other from the start must not keep
// background at a trickle on a link that has room for both.
func TestBackgroundBesideDemand(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 50 {
				get(t, q, want(i, store.Demand))
			}
		})
		synctest.Wait()
		stop := sweep(t, q, store.Profile, small)
		wg.Wait()
		n := q.Stats().Class[store.Profile].Chunks
		stop()
		if n < 500 {
			t.Errorf("%d chunks of background beside 50 of demand, want 500 or more", n)
		}
	})
}
