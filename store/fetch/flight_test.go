package fetch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

// run runs f with a queue in front of o, on a fake clock, and makes sure that
// nothing is left behind: synctest fails a test that leaves a goroutine.
func run(t *testing.T, o *origin, opt fetch.Options, f func(t *testing.T, q *fetch.Queue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := fetch.New(o, opt)
		f(t, q)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		checkLive(t, o)
	})
}

// one lets one request at a time through, so that others stay queued.
var one = fetch.Options{MinWindow: 1, MaxWindow: 1}

func TestSingleFlight(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { get(t, q, want(1, store.Demand)) })
		}
		wg.Wait()
		if n := o.total(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		s := q.Stats().Class[store.Demand]
		if s.Joined != 49 || s.Chunks != 1 || s.Plain != small || s.Stored != small {
			t.Errorf("counts %+v", s)
		}
		get(t, q, want(1, store.Demand))
		if n := o.total(); n != 2 {
			t.Errorf("%d requests after another Get, want 2: the queue keeps nothing", n)
		}
	})
}

// A size that an index gives wrongly must not spoil the chunk for another one.
func TestWrongSizeIsAnotherFlight(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	right := want(1, store.Demand)
	o.get = func(_ context.Context, w store.Want, _ int) (*store.Chunk, error) {
		return o.chunk(w, content(1, small)), nil
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		wrong := right
		wrong.Size++
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := tryGet(q, wrong); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
		wg.Go(func() { get(t, q, right) })
		wg.Wait()
	})
}

func TestOrder(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, one, func(t *testing.T, q *fetch.Queue) {
		asked := []store.Want{
			want(0, store.Demand), // goes at once
			want(1, store.Sweep), want(2, store.Sweep), want(3, store.ReadAhead), want(4, store.Profile),
			want(5, store.Walk), want(6, store.Demand), want(7, store.Demand), want(8, store.Profile),
		}
		var wg sync.WaitGroup
		for _, w := range asked {
			wg.Go(func() { get(t, q, w) })
			synctest.Wait() // the next one comes after it
		}
		wg.Wait()
		var got []int
		for _, w := range o.order {
			got = append(got, slices.IndexFunc(asked, func(a store.Want) bool { return a.ID == w.ID }))
		}
		if want := []int{0, 6, 7, 5, 4, 8, 3, 1, 2}; !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
	})
}

func TestUpgradeQueued(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, one, func(t *testing.T, q *fetch.Queue) {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() { get(t, q, want(i, store.Sweep)) })
			synctest.Wait()
		}
		start := time.Now()
		get(t, q, want(9, store.Demand))
		if d := time.Since(start); d > 20*time.Millisecond {
			t.Errorf("upgraded request took %v: it waited for background", d)
		}
		wg.Wait()
		if s := q.Stats().Class; s[store.Demand].Upgraded != 1 || o.total() != 10 {
			t.Errorf("%d upgraded, %d requests, want 1 and 10", s[store.Demand].Upgraded, o.total())
		}
	})
}

// What is in flight for background, and then wanted by demand, is demand: it
// keeps background down, and has demand's patience.
func TestUpgradeInFlight(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	o.get = func(_ context.Context, w store.Want, n int) (*store.Chunk, error) {
		if n <= 10 {
			return nil, errors.New("connection reset")
		}
		return o.good(w)
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		var wg sync.WaitGroup
		wg.Go(func() { get(t, q, want(1, store.Sweep)) })
		synctest.Wait()
		get(t, q, want(1, store.Demand))
		wg.Wait()
		if n := o.requests(want(1, 0)); n != 11 {
			t.Errorf("%d requests, want 11", n)
		}
	})
}

func TestLeave(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, one, func(t *testing.T, q *fetch.Queue) {
		first, leaveFirst := context.WithCancelCause(t.Context())
		others, leaveOthers := context.WithCancelCause(t.Context())
		errGone := errors.New("reader is gone")
		leaves := func(ctx context.Context, w store.Want) {
			if _, err := q.Get(ctx, w); !errors.Is(err, errGone) {
				t.Errorf("got %v, want %v", err, errGone)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { leaves(first, want(1, store.Demand)) }) // in flight, alone
		synctest.Wait()
		wg.Go(func() { leaves(others, want(2, store.Demand)) }) // queued, alone
		wg.Go(func() { leaves(others, want(3, store.Demand)) }) // queued, with one that stays
		wg.Go(func() { get(t, q, want(3, store.Demand)) })
		synctest.Wait()
		leaveOthers(errGone)
		synctest.Wait()
		leaveFirst(errGone)
		wg.Wait()
		synctest.Wait()
		if o.requests(want(2, 0)) != 0 || o.requests(want(3, 0)) != 1 {
			t.Errorf("%d requests for the one that nobody waits for, %d for the other; want 0 and 1",
				o.requests(want(2, 0)), o.requests(want(3, 0)))
		}
		if o.ended != 1 {
			t.Errorf("%d requests cancelled, want 1", o.ended)
		}
		if n := q.Stats().Class[store.Demand].Cancelled; n != 2 {
			t.Errorf("%d counted as cancelled, want 2", n)
		}
		get(t, q, want(1, store.Demand)) // can be asked for again
	})
}

// When the reader leaves and the sweep stays, the chunk is the sweep's again.
func TestLeaveDowngrades(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	run(t, o, one, func(t *testing.T, q *fetch.Queue) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { get(t, q, want(0, store.Demand)) })
		synctest.Wait()
		wg.Go(func() { get(t, q, want(1, store.Sweep)) })
		wg.Go(func() { _, _ = q.Get(ctx, want(1, store.Demand)) })
		wg.Go(func() { get(t, q, want(2, store.Walk)) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if o.order[1].ID != want(2, 0).ID {
			t.Error("the chunk that only the sweep wants went before the walk's")
		}
	})
}

func TestLeaveBefore(t *testing.T) {
	o := &origin{}
	run(t, o, one, func(t *testing.T, q *fetch.Queue) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Get(ctx, want(1, store.Demand)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if o.total() != 0 {
			t.Error("asked for a caller who had left")
		}
	})
}

func TestClose(t *testing.T) {
	o := &origin{latency: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		q := fetch.New(o, fetch.Options{})
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if _, err := q.Get(t.Context(), want(i, store.Class(i%store.Classes))); err == nil {
					t.Error("a chunk from a queue that was closed")
				}
			})
		}
		wg.Go(func() {
			if _, err := q.Has(t.Context(), want(1, store.Demand)); err == nil {
				t.Error("an answer from a queue that was closed")
			}
		})
		synctest.Wait()
		if q.Stats().InFlight == 0 || q.Stats().Queued == 0 {
			t.Fatal("nothing in flight or queued")
		}
		start := time.Now()
		for range 2 {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			checkLive(t, o)
		}
		wg.Wait()
		if d := time.Since(start); d > 0 {
			t.Errorf("close took %v", d)
		}
		if _, err := q.Get(t.Context(), want(1, store.Demand)); err == nil {
			t.Error("Get after Close gave a chunk")
		}
	})
}

func TestHas(t *testing.T) {
	o := &origin{latency: 20 * time.Millisecond}
	busy := true
	o.has = func(w store.Want) (bool, error) {
		if busy {
			busy = false
			return false, &store.BusyError{Err: errors.New("503")}
		}
		return w.ID == want(1, 0).ID, nil
	}
	run(t, o, fetch.Options{}, func(t *testing.T, q *fetch.Queue) {
		for n, there := range map[int]bool{1: true, 2: false} {
			if ok, err := q.Has(t.Context(), want(n, store.Demand)); err != nil || ok != there {
				t.Errorf("chunk %d: %v, %v; want %v", n, ok, err, there)
			}
		}
	})
}
