package fetch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

const ms = time.Millisecond

// Links, scaled down by 10 as the chunks on them are, to hash less: 4 KiB for
// 40.
const (
	gigabit  = 12.5e6
	hundred  = 1.25e6
	twenty   = 0.25e6
	onTheWay = 4 * kib
)

// readSingly reads n chunks one after the other, each of which nobody had asked
// for, and returns how long each took, the fastest first.
func readSingly(t *testing.T, q *fetch.Queue, n int, pause time.Duration) []time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		get(t, q, wanted(i, onTheWay, store.Demand))
		took[i] = time.Since(start)
		time.Sleep(pause)
	}
	slices.Sort(took)
	return took
}

// slowOne makes one answer in nth take two seconds.
func slowOne(o *origin, nth int64) {
	var n atomic.Int64
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		if n.Add(1)%nth == 0 {
			if err := sleep(ctx, 2*time.Second); err != nil {
				return nil, err
			}
		}
		return o.good(w)
	}
}

// Bulk in the background: all of a tree of 270 MB, and the part of it that one
// build touches.
func TestBulk(t *testing.T) {
	const all, touched, size = 3247, 535, 2 << 10
	tests := []struct {
		name   string
		class  store.Class
		chunks int64
		rate   float64
		most   time.Duration
	}{
		{"sweep, 1 Gbit", store.Sweep, all, gigabit, 700 * ms},
		{"sweep, 100 Mbit", store.Sweep, all, hundred, 5600 * ms},
		{"profile, 1 Gbit", store.Profile, touched, gigabit, 180 * ms},
		{"profile, 100 Mbit", store.Profile, touched, hundred, 1000 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &origin{latency: 20 * ms, link: link{rate: tt.rate}}
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				start := time.Now()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range 128 {
					wg.Go(func() {
						for i := next.Add(1); i <= tt.chunks; i = next.Add(1) {
							get(t, q, wanted(int(i), size, tt.class))
						}
					})
				}
				wg.Wait()
				took := time.Since(start)
				t.Logf("%v, the link alone %v", took, time.Duration(float64(tt.chunks)*size*1e9/o.link.rate))
				if took > tt.most {
					t.Errorf("took %v, want %v at most", took, tt.most)
				}
			})
		})
	}
}

// Sixteen readers who each wait for one chunk after the other get as many as
// the round trips allow, from the start.
func TestManyReaders(t *testing.T) {
	o := &origin{latency: 20 * ms, link: link{rate: gigabit}}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var next, read atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if c, err := q.Get(ctx, wanted(int(next.Add(1)), onTheWay, store.Demand)); err == nil {
						c.Release()
						read.Add(1)
					}
				}
			})
		}
		wg.Wait()
		t.Logf("%d reads in a second", read.Load())
		if read.Load() < 700 {
			t.Errorf("%d reads in a second, want 700 of the 800 that fit", read.Load())
		}
	})
}

// One answer in a hundred, or in thirty-three, takes two seconds.
func TestSlowTail(t *testing.T) {
	const reads = 300
	tests := []struct {
		name  string
		nth   int64
		sweep bool
		rate  float64
		least float64 // of the link, for a sweep
	}{
		{"1 %", 100, false, gigabit, 0},
		{"1 %, sweep", 100, true, gigabit, 0.25},
		{"1 %, sweep, 100 Mbit", 100, true, hundred, 0.5},
		{"3 %", 33, false, gigabit, 0},
		{"3 %, sweep", 33, true, gigabit, 0.1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &origin{latency: 20 * ms, link: link{rate: tt.rate}}
			slowOne(o, tt.nth)
			run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
				stop, begin := func() {}, time.Now()
				if tt.sweep {
					stop = sweep(t, q, store.Sweep, onTheWay)
					time.Sleep(time.Second)
				}
				took := readSingly(t, q, reads, 0)
				s := q.Stats()
				stop()
				synctest.Wait() // for the losers
				p99 := took[len(took)*99/100]
				t.Logf("p50 %v, p99 %v, worst %v; hedges %d, window %d, p95 %v, %d chunks of sweep", took[reads/2], p99, took[reads-1], s.Hedges, s.Window, s.P95, s.Class[store.Sweep].Chunks)
				if p99 > 150*ms {
					t.Errorf("p99 %v", p99)
				}
				if s.Hedges > reads/20+1 {
					t.Errorf("%d of %d chunks fetched twice", s.Hedges, reads)
				}
				if full := q.Stats().Class[store.Sweep].Chunks; tt.sweep && float64(full*onTheWay) < tt.least*tt.rate*time.Since(begin).Seconds() {
					t.Errorf("sweep used %.0f %% of the link", 100*float64(full*onTheWay)/tt.rate/time.Since(begin).Seconds())
				}
			})
		})
	}
}

// Readers of what is on its way for background already are helped too, as often
// as one in twenty needs it.
func TestSlowTailJoined(t *testing.T) {
	const batch, batches = 20, 100
	o := &origin{latency: 20 * ms, link: link{rate: gigabit}}
	slowOne(o, 100)
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		var took []time.Duration
		for i := range batches {
			var ahead, readers sync.WaitGroup
			var mu sync.Mutex
			for j := range batch {
				w := wanted(i*batch+j, onTheWay, store.ReadAhead)
				ahead.Go(func() { get(t, q, w) })
			}
			synctest.Wait()
			start := time.Now()
			for j := range batch {
				readers.Go(func() {
					get(t, q, wanted(i*batch+j, onTheWay, store.Demand))
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(start))
				})
			}
			readers.Wait()
			ahead.Wait()
		}
		slices.Sort(took)
		s, p99, worst := q.Stats(), took[len(took)*99/100], took[len(took)-1]
		t.Logf("p50 %v, p99 %v, worst %v; %d hedges", took[len(took)/2], p99, worst, s.Hedges)
		if p99 > 150*ms || worst > 150*ms {
			t.Errorf("p99 %v, worst %v", p99, worst)
		}
		if s.Hedges > batch*batches/20 {
			t.Errorf("%d hedges", s.Hedges)
		}
	})
}

// An origin that refuses one request in ten is not asked for more than it must.
func TestNoHedgeWhenRefused(t *testing.T) {
	o := &origin{latency: 20 * ms}
	var n atomic.Int64
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		switch i := n.Add(1); {
		case i > 100 && i%10 == 0:
			return nil, &store.BusyError{Err: errors.New("503")}
		case i > 150 && i%25 == 1:
			if err := sleep(ctx, 500*ms); err != nil {
				return nil, err
			}
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		for i := range 1000 {
			get(t, q, want(i, store.Demand))
		}
		if n := q.Stats().Hedges; n > 0 {
			t.Errorf("%d hedges", n)
		}
	})
}
