package prefetch_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
)

// A keeper keeps what a store gives, as an image with a cache does.
type keeper struct {
	index *index.Index
	store store.Store
	mu    sync.Mutex // guards kept
	kept  map[chunker.ID]bool
}

func (k *keeper) Rows() int { return k.index.Len() }

func (k *keeper) Kept(_ context.Context, row int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[k.index.Chunk(row).ID]
}

func (k *keeper) Keep(ctx context.Context, row int) (int, error) {
	if k.Kept(ctx, row) {
		return 0, nil
	}
	c := k.index.Chunk(row)
	got, err := k.store.Get(ctx, store.Want{ID: c.ID, Size: c.Size, Digest: k.index.Digest(), Class: store.Sweep})
	if err != nil {
		return 0, err
	}
	got.Release()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[c.ID] {
		return 0, nil
	}
	k.kept[c.ID] = true
	return c.Size, nil
}

func sweepImage(t *testing.T, n int) (*index.Index, *slowStore, *keeper) {
	x, s := image(t, n)
	return x, s, &keeper{index: x, store: s, kept: make(map[chunker.ID]bool)}
}

func TestSweep(t *testing.T) {
	x, s, k := sweepImage(t, 100)
	synctest.Test(t, func(t *testing.T) {
		for i := range 10 {
			k.kept[x.Chunk(7*i).ID] = true
		}
		var reports []prefetch.SweepStats
		begin := time.Now()
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{
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
		st, err = prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{})
		if err != nil || st != (prefetch.SweepStats{Present: 100}) || s.asks() != 90 {
			t.Errorf("again: %+v, %v, %d requests in all", st, err, s.asks())
		}
	})
}

// While the origin is down the sweep asks rarely, and then it goes on.
func TestSweepPauses(t *testing.T) {
	_, s, k := sweepImage(t, 100)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		up := begin.Add(10 * time.Minute)
		s.fail = func(store.Want) error {
			if time.Now().Before(up) {
				return errors.New("connection refused")
			}
			return nil
		}
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Requests: 4})
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
	_, s, k := sweepImage(t, 3)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s.fail = func(store.Want) error {
			if time.Since(begin) < time.Hour {
				return &store.BusyError{After: time.Hour, Err: errors.New("429 Too Many Requests")}
			}
			return nil
		}
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Requests: 1})
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
			st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{})
			if err != nil || st != (prefetch.SweepStats{Fetched: 19, Left: 1, Bytes: 19 * chunk}) {
				t.Errorf("%v: %+v, %v", cause, st, err)
			}
		})
	}
}

// A sweep into a file that cannot be used any more ends.
func TestSweepWithoutPlace(t *testing.T) {
	x, s, _ := sweepImage(t, 20)
	path := filepath.Join(t.TempDir(), "f")
	synctest.Test(t, func(t *testing.T) {
		f, err := blockcache.OpenFile(path, x, blockcache.FileOptions{Size: x.Size()})
		if err != nil {
			t.Fatal(err)
		}
		img := blockcache.New(x, s, blockcache.Options{})
		defer img.Close()
		img.Attach(f)
		seen := 0
		st, err := prefetch.Sweep(t.Context(), prefetch.Keeping(img), prefetch.SweepOptions{
			Requests: 1,
			Progress: func(prefetch.SweepStats) {
				if seen++; seen == 5 {
					if err := f.Close(); err != nil {
						t.Error(err)
					}
				}
			},
		})
		if err != nil || !st.Full || st.Fetched < 5 || st.Fetched > 6 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestSweepCancelled(t *testing.T) {
	_, s, k := sweepImage(t, 100)
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
				st, err := prefetch.Sweep(ctx, k, prefetch.SweepOptions{Requests: 8})
				if err != gone || st.Left != 0 || st.Fetched == 100 {
					t.Errorf("%+v, %v", st, err)
				}
			})
		})
	}
}

// A chunk that the image has many times is fetched once.
func TestSweepOfEqualChunks(t *testing.T) {
	x, s, k := sweepImage(t, 1)
	b := index.NewBuilder(x.Flags, x.Params)
	for range 1000 {
		if err := b.Append(x.Chunk(0).ID, chunk); err != nil {
			t.Fatal(err)
		}
	}
	k.index = b.Index()
	synctest.Test(t, func(t *testing.T) {
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Requests: 8})
		if want := (prefetch.SweepStats{Present: 999, Fetched: 1, Bytes: chunk}); err != nil || st != want || len(k.kept) != 1 {
			t.Errorf("%+v, %v", st, err)
		}
		if s.asks() > 8 {
			t.Errorf("%d requests", s.asks())
		}
	})
}

// A rate is kept to from the first moment on, whatever is under way.
func TestSweepRate(t *testing.T) {
	x, s, k := sweepImage(t, 200)
	synctest.Test(t, func(t *testing.T) {
		const rate = 10 * chunk // bytes a second
		begin := time.Now()
		var late, early time.Duration
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Rate: rate, Progress: func(st prefetch.SweepStats) {
			off := time.Since(begin) - time.Duration(st.Bytes)*time.Second/rate
			late, early = max(late, off), max(early, -off)
		}})
		if err != nil || st.Fetched != 200 {
			t.Errorf("%+v, %v", st, err)
		}
		if most := 100*time.Millisecond + s.delay; late > most || early > most {
			t.Errorf("%v behind its time, %v before it", late, early)
		}
		// What is there costs nothing.
		begin = time.Now()
		if _, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Rate: rate}); err != nil || time.Since(begin) != 0 {
			t.Errorf("again: took %v, %v", time.Since(begin), err)
		}
	})
	if s.most > 2 || x.Len() != 200 {
		t.Errorf("%d requests at once", s.most)
	}
}

// Where there is no more room the sweep ends, and has not taken more than there
// was.
func TestSweepRoom(t *testing.T) {
	_, _, k := sweepImage(t, 100)
	synctest.Test(t, func(t *testing.T) {
		room := func() int64 {
			k.mu.Lock()
			defer k.mu.Unlock()
			return int64(40-len(k.kept)) * chunk
		}
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Room: room})
		if err != nil || st != (prefetch.SweepStats{Fetched: 40, Bytes: 40 * chunk, Full: true}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// A sweep that fails, and for which there is no more room, does not wait for
// better times.
func TestSweepRoomGone(t *testing.T) {
	_, s, k := sweepImage(t, 100)
	s.fail = func(store.Want) error { return errors.New("disk full") }
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Room: func() int64 {
			if time.Since(begin) > 10*time.Second {
				return 0
			}
			return 1 << 30
		}})
		if err != nil || st != (prefetch.SweepStats{Full: true}) {
			t.Errorf("%+v, %v", st, err)
		}
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// Chunks of 16 MiB do not come a hundred at a time.
func TestSweepOfLargeChunks(t *testing.T) {
	_, s, k := sweepImage(t, 20)
	synctest.Test(t, func(t *testing.T) {
		st, err := prefetch.Sweep(t.Context(), k, prefetch.SweepOptions{Chunk: 16 << 20})
		if err != nil || st.Fetched != 20 || s.most != 1 {
			t.Errorf("%+v, %v, %d at once", st, err, s.most)
		}
	})
}
