package prefetch_test

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/chunker"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
)

// A keeper passes on what a store gives and keeps it, as a cache does. It is
// the store that it keeps chunks in, too.
type keeper struct {
	store.Store
	mu   sync.Mutex // guards kept
	kept map[chunker.ID]bool
}

func (k *keeper) Get(ctx context.Context, w store.Want) (*store.Chunk, error) {
	c, err := k.Store.Get(ctx, w)
	if err == nil {
		k.mu.Lock()
		k.kept[w.ID] = true
		k.mu.Unlock()
	}
	return c, err
}

func (k *keeper) Has(_ context.Context, w store.Want) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[w.ID], nil
}

func sweepImage(t *testing.T, n int) (*index.Index, *slowStore, *keeper) {
	x, s := image(t, n)
	return x, s, &keeper{Store: s, kept: make(map[chunker.ID]bool)}
}

func TestSweep(t *testing.T) {
	x, s, k := sweepImage(t, 100)
	synctest.Test(t, func(t *testing.T) {
		for i := range 10 {
			k.kept[x.Chunk(7*i).ID] = true
		}
		var reports []prefetch.SweepStats
		begin := time.Now()
		st, err := prefetch.Sweep(t.Context(), x, k, k, prefetch.SweepOptions{
			Bytes:    16 * chunk,
			Progress: func(st prefetch.SweepStats) { reports = append(reports, st) },
		})
		want := prefetch.SweepStats{Present: 10, Fetched: 90, Bytes: 90 * chunk}
		if err != nil || st != want {
			t.Errorf("%+v, %v", st, err)
		}
		if len(reports) != 100 || reports[99] != st {
			t.Errorf("%d reports", len(reports))
		}
		if s.most != 16 {
			t.Errorf("%d requests at once, want 16", s.most)
		}
		if took := time.Since(begin); took != 6*s.delay {
			t.Errorf("took %v, want 90/16 round trips", took)
		}
		if len(k.kept) != 100 {
			t.Errorf("%d chunks kept", len(k.kept))
		}
		st, err = prefetch.Sweep(t.Context(), x, k, k, prefetch.SweepOptions{})
		if err != nil || st != (prefetch.SweepStats{Present: 100}) || s.asks() != 90 {
			t.Errorf("again: %+v, %v, %d requests in all", st, err, s.asks())
		}
	})
}

// While the origin is down the sweep asks rarely, and then it goes on.
func TestSweepPauses(t *testing.T) {
	x, s, k := sweepImage(t, 100)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		up := begin.Add(10 * time.Minute)
		s.fail = func(store.Want) error {
			if time.Now().Before(up) {
				return errors.New("connection refused")
			}
			return nil
		}
		st, err := prefetch.Sweep(t.Context(), x, k, k, prefetch.SweepOptions{Requests: 4})
		if err != nil || st != (prefetch.SweepStats{Fetched: 100, Bytes: 100 * chunk}) {
			t.Errorf("%+v, %v", st, err)
		}
		if vain := s.asks() - 100; vain > 4*20 {
			t.Errorf("%d requests in vain in ten minutes", vain)
		}
		if late := time.Since(up); late > 80*time.Second {
			t.Errorf("done %v after the origin was back", late)
		}
	})
}

func TestSweepHonoursBusy(t *testing.T) {
	x, s, k := sweepImage(t, 3)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s.fail = func(store.Want) error {
			if time.Since(begin) < time.Hour {
				return &store.BusyError{After: time.Hour, Err: errors.New("429 Too Many Requests")}
			}
			return nil
		}
		st, err := prefetch.Sweep(t.Context(), x, k, k, prefetch.SweepOptions{Requests: 1})
		if err != nil || st.Fetched != 3 || s.asks() != 4 {
			t.Errorf("%+v, %v, %d requests", st, err, s.asks())
		}
	})
}

// Chunks that are not to be had are left out, the others come.
func TestSweepLeavesOut(t *testing.T) {
	for _, cause := range []error{store.ErrMissing, store.ErrCorrupt, store.ErrRefused} {
		x, s, k := sweepImage(t, 20)
		bad := x.Chunk(5).ID
		s.fail = func(w store.Want) error {
			if w.ID == bad {
				return cause
			}
			return nil
		}
		synctest.Test(t, func(t *testing.T) {
			st, err := prefetch.Sweep(t.Context(), x, k, k, prefetch.SweepOptions{})
			if err != nil || st != (prefetch.SweepStats{Fetched: 19, Left: 1, Bytes: 19 * chunk}) {
				t.Errorf("%v: %+v, %v", cause, st, err)
			}
		})
	}
}

func TestSweepCancelled(t *testing.T) {
	x, s, k := sweepImage(t, 100)
	tests := []struct {
		name string
		fail func(store.Want) error
	}{
		{"while fetching", nil},
		{"in a pause", func(store.Want) error { return fs.ErrPermission }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.fail = tt.fail
			synctest.Test(t, func(t *testing.T) {
				gone := errors.New("the mount is gone")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
				st, err := prefetch.Sweep(ctx, x, k, k, prefetch.SweepOptions{Requests: 8})
				if err != gone || st.Left != 0 || st.Fetched == 100 {
					t.Errorf("%+v, %v", st, err)
				}
			})
		})
	}
}

// A run of equal chunks is looked at once.
func TestSweepOfEqualChunks(t *testing.T) {
	x, s, k := sweepImage(t, 1)
	b := index.NewBuilder(x.Flags, x.Params)
	for range 1000 {
		if err := b.Append(x.Chunk(0).ID, chunk); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		st, err := prefetch.Sweep(t.Context(), b.Index(), k, k, prefetch.SweepOptions{})
		if err != nil || st.Fetched != 1 || s.asks() != 1 {
			t.Errorf("%+v, %v, %d requests", st, err, s.asks())
		}
	})
}
