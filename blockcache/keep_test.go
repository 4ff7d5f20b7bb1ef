package blockcache_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/store"
)

// A keeping store keeps what it gives.
type keeping struct {
	*fakeStore
	mu   sync.Mutex
	kept map[chunker.ID]bool
}

func (k *keeping) Get(ctx context.Context, w store.Want) (*store.Chunk, error) {
	c, err := k.fakeStore.Get(ctx, w)
	if err == nil {
		k.mu.Lock()
		k.kept[w.ID] = true
		k.mu.Unlock()
	}
	return c, err
}

func (k *keeping) Has(_ context.Context, w store.Want) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[w.ID], nil
}

func TestKeep(t *testing.T) {
	data := append(noise(9000), make([]byte, 1000)...)
	x, s := image(t, data, 1000)
	tests := []struct {
		name  string
		kept  store.Store
		file  bool
		place bool // there is one
	}{
		{"nowhere", nil, false, false},
		{"store", &keeping{fakeStore: s, kept: make(map[chunker.ID]bool)}, false, true},
		{"file", nil, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := blockcache.NewMemory(1 << 20)
			var from store.Store = s
			if tt.kept != nil {
				from = tt.kept
			}
			img := blockcache.New(x, from, blockcache.Options{Memory: mem, Kept: tt.kept})
			defer img.Close()
			if tt.file {
				img.Attach(openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size()))
			}
			if img.Rows() != 10 {
				t.Fatalf("%d rows", img.Rows())
			}
			if !img.Kept(t.Context(), 9) && !tt.file {
				t.Error("a chunk of zeros is not kept")
			}
			for i, want := range []int{1000, 0} {
				size, err := img.Keep(t.Context(), 3, store.Sweep)
				if !tt.place {
					if err == nil || img.Kept(t.Context(), 3) {
						t.Errorf("%d: kept, though there is no place for it", i)
					}
					continue
				}
				if size != want || err != nil || !img.Kept(t.Context(), 3) {
					t.Errorf("%d: %d bytes, want %d; %v", i, size, want, err)
				}
			}
			if st := mem.Stats(); st.Bytes != 0 {
				t.Errorf("%d bytes in memory", st.Bytes)
			}
			if !tt.place {
				return
			}
			if size, err := img.Keep(t.Context(), 9, store.Sweep); size != 0 || err != nil || !img.Kept(t.Context(), 9) {
				t.Errorf("zeros: %d bytes, %v", size, err)
			}
			s.setFail(x.Chunk(4).ID, store.ErrRefused)
			defer s.setFail(x.Chunk(4).ID, nil)
			if _, err := img.Keep(t.Context(), 4, store.Sweep); !errors.Is(err, store.ErrRefused) || img.Kept(t.Context(), 4) {
				t.Errorf("a chunk that cannot be had: %v", err)
			}
		})
	}
}

// What is in memory is not fetched again for a file.
func TestKeepFromMemory(t *testing.T) {
	x, s := image(t, noise(9000), 1000)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
	defer img.Close()
	_ = content(t, img, 0, 9000)
	f := openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size())
	img.Attach(f)
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil || !f.Complete() {
		t.Error(err)
	}
	if s.asks() != 9 {
		t.Errorf("%d requests for 9 chunks", s.asks())
	}
}

// However few chunks a file has, the last one may come last.
func TestFillLastOne(t *testing.T) {
	for n := range 4 {
		x, s := image(t, noise(1000*(n+1)), 1000)
		img := blockcache.New(x, s, blockcache.Options{})
		f := openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size())
		img.Attach(f)
		for row := range n {
			if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
				t.Fatal(err)
			}
		}
		if err := img.Fill(t.Context(), f, store.Sweep); err != nil || !f.Complete() {
			t.Errorf("%d chunks: %v", n+1, err)
		}
		if s.asks() != n+1 {
			t.Errorf("%d requests for %d chunks", s.asks(), n+1)
		}
		img.Close()
	}
}

// A chunk that cannot be had does not keep Fill from the others.
func TestFillGoesOn(t *testing.T) {
	x, s := image(t, noise(9000), 1000)
	s.setFail(x.Chunk(2).ID, &store.MissingError{ID: x.Chunk(2).ID, Where: "fake"})
	img := blockcache.New(x, s, blockcache.Options{})
	defer img.Close()
	f := openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size())
	if err := img.Fill(t.Context(), f, store.Sweep); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v", err)
	}
	if here, all := f.Chunks(); here != 8 || all != 9 || f.Complete() {
		t.Errorf("%d of %d chunks", here, all)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the reader is gone")
	cancel(gone)
	if err := img.Fill(ctx, f, store.Sweep); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	s.setFail(x.Chunk(2).ID, nil)
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil || !f.Complete() {
		t.Error(err)
	}
	if err := img.Fill(t.Context(), openFile(t, filepath.Join(t.TempDir(), "f"), other(t), 0, 9000), store.Sweep); err == nil {
		t.Error("the file of another image was filled")
	}
}

// Bring fills half of the memory, and drives out nothing but what is on
// probation and was read; what comes then goes where the rest is kept.
func TestBring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk, budget = 4 << 10, 64 * 4 << 10
		x, s := image(t, noise(400*chunk), chunk)
		k := &keeping{fakeStore: s, kept: make(map[chunker.ID]bool)}
		mem := blockcache.NewMemory(budget)
		img := blockcache.New(x, k, blockcache.Options{Memory: mem, Kept: k})
		defer img.Close()
		v, profile := img.View(store.Demand), img.View(store.Profile)

		const set = budget / 2
		read(t, v, 0, set)
		read(t, v, set, budget/4)
		read(t, v, 0, set)                   // frequent
		read(t, v, set+budget/4, budget/4-1) // on probation, and read
		for row := 100; row < 200; row++ {
			if o, err := profile.Bring(t.Context(), row); o != blockcache.Fetched || err != nil {
				t.Fatalf("chunk %d: outcome %d, %v", row, o, err)
			}
		}
		st := mem.Stats()
		if st.Fetched[store.Profile] != budget/2 || st.Wasted[store.Profile] != 0 {
			t.Errorf("%d bytes brought into memory, %d wasted; want half of the budget", st.Fetched[store.Profile], st.Wasted[store.Profile])
		}
		asked := s.asks()
		read(t, v, 0, set)
		if n := s.asks() - asked; n != 0 {
			t.Errorf("%d chunks in use were driven out", n)
		}
		read(t, v, 100*chunk, budget/2)
		if n := s.asks() - asked; n != 0 {
			t.Errorf("%d chunks that were brought are not there", n)
		}
		if got := mem.Stats().Used[store.Profile]; got != budget/2 {
			t.Errorf("%d bytes used", got)
		}
		if !img.Kept(t.Context(), 199) {
			t.Error("what had no room is not kept")
		}
		for _, row := range []int{0, 100} {
			if o, err := profile.Bring(t.Context(), row); o != blockcache.Here || err != nil {
				t.Errorf("chunk %d: fetched again (%v)", row, err)
			}
		}
	})
}

// Without a place to keep it, what has no room waits until the first of what was
// brought is read. What was read without it meanwhile is not fetched again.
func TestBringWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, append(noise(9000), make([]byte, 1000)...), 1000)
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(4000)})
		profile := img.View(store.Profile)
		outcomes := make([]blockcache.Outcome, 10)
		var brings sync.WaitGroup
		for row := range 10 {
			brings.Go(func() {
				o, err := profile.Bring(t.Context(), row)
				if err != nil && !errors.Is(err, fs.ErrClosed) {
					t.Error(err)
				}
				outcomes[row] = o
			})
			synctest.Wait() // so that they stand in line in their order
		}
		if s.asks() != 2 {
			t.Fatalf("%d chunks, want half of the budget", s.asks())
		}
		_ = content(t, img, 8000, 1000) // which is still in line
		for n := range int64(3) {
			_ = content(t, img, n*1000, 1000)
			synctest.Wait()
		}
		if want := 6; s.asks() != want { // 0 to 4, and 8
			t.Errorf("%d chunks came, want %d", s.asks(), want)
		}
		img.Close()
		brings.Wait()
		const here, came, none = blockcache.Here, blockcache.Fetched, blockcache.NoRoom
		outcomes = slices.Delete(outcomes, 8, 9) // whether its turn came before the end is chance
		if want := []blockcache.Outcome{came, came, came, came, came, none, none, none, here}; !slices.Equal(outcomes, want) {
			t.Errorf("outcomes %v, want %v", outcomes, want)
		}
	})
}

// What was read while it stood in line, and has gone since, is not fetched again.
func TestBringTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(9000), 1000)
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(4000)})
		defer img.Close()
		profile := img.View(store.Profile)
		for row := range 2 {
			if _, err := profile.Bring(t.Context(), row); err != nil {
				t.Fatal(err)
			}
		}
		got := blockcache.Fetched
		var late sync.WaitGroup
		late.Go(func() { got, _ = profile.Bring(t.Context(), 2) })
		synctest.Wait()
		for _, row := range []int64{2, 3, 4, 0} {
			_ = content(t, img, row*1000, 1000)
			synctest.Wait()
		}
		late.Wait()
		if s.gets[x.Chunk(2).ID] != 1 || got != blockcache.Here {
			t.Errorf("fetched %d times, outcome %d", s.gets[x.Chunk(2).ID], got)
		}
	})
}

// Where it is of no use to wait for room, nobody does.
func TestBringLeaves(t *testing.T) {
	x, s := image(t, noise(9000), 1000)
	for _, budget := range []int64{0, 1999} {
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(budget)})
		defer img.Close()
		if o, err := img.View(store.Profile).Bring(t.Context(), 0); o != blockcache.NoRoom || err != nil {
			t.Errorf("budget %d: outcome %d, %v", budget, o, err)
		}
	}
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(4000)})
	defer img.Close()
	profile := img.View(store.Profile)
	for row := range 2 {
		if _, err := profile.Bring(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	_ = content(t, img, 5000, 4000) // drives them out
	for row := range 4 {
		if _, err := profile.Bring(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := profile.Bring(t.Context(), 4); o != blockcache.NoRoom || err != nil {
		t.Errorf("after waste: outcome %d, %v", o, err)
	}
	s.setFail(x.Chunk(0).ID, store.ErrRefused)
	img = blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(4000)})
	defer img.Close()
	if _, err := img.View(store.Profile).Bring(t.Context(), 0); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// A sweep of all of an image leaves the working set, half of the budget, in
// memory.
func TestSweepLeavesMemory(t *testing.T) {
	const chunk, budget = 16 << 10, 64 * 16 << 10
	x, s := image(t, noise(300*chunk), chunk)
	k := &keeping{fakeStore: s, kept: make(map[chunker.ID]bool)}
	img := blockcache.New(x, k, blockcache.Options{Memory: blockcache.NewMemory(budget), Kept: k})
	defer img.Close()
	v := img.View(store.Demand)
	read(t, v, 0, budget/2)
	before := img.Stats()
	for row := range img.Rows() {
		if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
			t.Fatal(err)
		}
		read(t, v, int64(row)*7919*4096%(budget/2), 4096)
	}
	if st := img.Stats(); st.Misses != before.Misses {
		t.Errorf("%d misses during the sweep", st.Misses-before.Misses)
	}
}

// Touched is told of each chunk that a demand read touches, wherever it is.
func TestTouched(t *testing.T) {
	x, s := image(t, append(noise(3000), make([]byte, 1000)...), 1000)
	var rows []int
	img := blockcache.New(x, s, blockcache.Options{
		Memory:  blockcache.NewMemory(1 << 20),
		Touched: func(row int) { rows = append(rows, row) },
	})
	defer img.Close()
	_ = content(t, img, 500, 1000)
	_ = content(t, img, 0, 1)
	_ = content(t, img, 3500, 1)
	if _, err := img.View(store.Walk).ReadAt(t.Context(), make([]byte, 10), 2000); err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 0, 3}; !slices.Equal(rows, want) {
		t.Errorf("%v, want %v", rows, want)
	}
}
