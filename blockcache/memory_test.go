package blockcache_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/store"
)

// read reads n bytes at off in pieces of 4 KiB, as a kernel may.
func read(t testing.TB, v *blockcache.View, off, n int64) {
	t.Helper()
	var p [4096]byte
	for end := off + n; off < end; off += int64(len(p)) {
		if _, err := v.ReadAt(t.Context(), p[:], off); err != nil {
			t.Fatal(err)
		}
	}
}

// A long scan passes by a working set that has been used twice.
func TestScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk, budget = 16 << 10, 64 * 16 << 10
		x, s := image(t, noise(300*chunk), chunk)
		mem := blockcache.NewMemory(budget)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		v, ahead := img.View(store.Demand), img.View(store.ReadAhead)

		const set = budget / 2
		read(t, v, 0, set)
		read(t, v, set, budget/4)
		read(t, v, 0, set)
		for off := int64(set); off < set+3*budget; off += 4 * chunk {
			ahead.Want(blockcache.Range{Off: off, Len: 4 * chunk})
			synctest.Wait()
			read(t, v, off, 4*chunk)
		}
		if wasted := mem.Stats().Wasted[store.ReadAhead]; wasted != 0 {
			t.Errorf("%d bytes of what was fetched ahead were evicted unread", wasted)
		}
		asked := s.asks()
		read(t, v, 0, set)
		if n := s.asks() - asked; n != 0 {
			t.Errorf("%d of %d chunks of the working set are gone", n, set/chunk)
		}
	})
}

// A working set that comes back after its eviction gets its place.
func TestComesBack(t *testing.T) {
	const chunk = 4096
	x, s := image(t, noise(400*chunk), chunk)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(40 * chunk)})
	defer img.Close()
	v := img.View(store.Demand)
	read(t, v, 0, 8*chunk)
	read(t, v, 100*chunk, 60*chunk) // drives it out
	read(t, v, 0, 8*chunk)          // remembered
	read(t, v, 200*chunk, 150*chunk)
	asked := s.asks()
	read(t, v, 0, 8*chunk)
	if n := s.asks() - asked; n != 0 {
		t.Errorf("%d of 8 chunks are gone", n)
	}
}

// What is in memory and under way stays inside the budget, whatever 64
// goroutines ask for; no reader sees bytes after their release.
func TestBudget(t *testing.T) {
	const budget = 300_000
	data := noise(2 << 20)
	x, s := image(t, data, 40_000, 100, 9000, 20_000, 4096)
	s.unproof = true
	mem := blockcache.NewMemory(budget)
	s.asked = func(context.Context, store.Want) {
		if st := mem.Stats(); st.Bytes+st.UnderWay > budget || st.Bytes < 0 || st.UnderWay <= 0 {
			t.Errorf("over the budget of %d: %+v", budget, st)
		}
	}
	imgs := []*blockcache.Image{
		blockcache.New(x, s, blockcache.Options{Memory: mem}),
		blockcache.New(x, s, blockcache.Options{Memory: mem}),
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			img := imgs[g%2]
			v, ahead := img.View(store.Demand), img.View(store.ReadAhead)
			p := make([]byte, 50_000)
			for range 25 {
				off := rng.Int64N(x.Size() - int64(len(p)))
				ahead.Want(blockcache.Range{Off: rng.Int64N(x.Size()), Len: 30_000})
				if _, err := v.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, data[off:][:len(p)]) {
					t.Errorf("wrong bytes at %d or %v", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, img := range imgs {
		img.Close()
	}
	st := mem.Stats()
	if st.UnderWay != 0 || st.Bytes == 0 || s.live != st.Bytes {
		t.Errorf("%+v, and %d bytes of chunks not released", st, s.live)
	}
}

func TestChunkAboveBudget(t *testing.T) {
	data := noise(20_000)
	x, s := image(t, data, 10_000)
	mem := blockcache.NewMemory(5000)
	img := blockcache.New(x, s, blockcache.Options{Memory: mem})
	defer img.Close()
	p := make([]byte, len(data))
	if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
		t.Fatalf("wrong bytes or %v", err)
	}
	if s.peak != 10_000 || s.live != 0 {
		t.Errorf("%d bytes at once and %d in the end, want one chunk and none", s.peak, s.live)
	}
	img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 10_000})
	if s.asks() != 2 {
		t.Error("a hint was followed that no memory can hold")
	}
}

func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(40_000), 1000)
		s.delay = 20 * time.Millisecond
		mem := blockcache.NewMemory(20_000)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		v, ahead := img.View(store.Demand), img.View(store.ReadAhead)

		ahead.Want(blockcache.Range{Off: -1, Len: 5}, blockcache.Range{Off: 500, Len: 0}, blockcache.Range{Off: 1 << 60, Len: 1})
		ahead.Want(blockcache.Range{Off: 500, Len: 501}, blockcache.Range{Off: 1500, Len: 1})
		synctest.Wait()
		if s.asks() != 2 {
			t.Fatalf("%d requests, want two", s.asks())
		}
		if st, end := ahead.State(1200); st != blockcache.Absent || end != 2000 {
			t.Errorf("on its way: %v to %d", st, end)
		}
		time.Sleep(s.delay)
		synctest.Wait()
		if st, _ := ahead.State(1200); st != blockcache.Resident {
			t.Errorf("arrived: %v", st)
		}
		ahead.Want(blockcache.Range{Off: 0, Len: 1 << 62}) // what is there, and half the budget
		synctest.Wait()
		if got := s.asks(); got != 2+10 {
			t.Errorf("%d requests, want those for half the budget", got)
		}
		begin := time.Now()
		if _, err := v.ReadAt(t.Context(), make([]byte, 2000), 0); err != nil || time.Since(begin) != 0 {
			t.Errorf("what was there took %v: %v", time.Since(begin), err)
		}
		time.Sleep(s.delay)
		synctest.Wait()
		st := mem.Stats()
		if st.Fetched[store.ReadAhead] != 12_000 || st.Used[store.ReadAhead] != 2000 || st.Wasted[store.ReadAhead] != 0 {
			t.Errorf("%+v", st)
		}
		if _, err := v.ReadAt(t.Context(), make([]byte, 20_000), 20_000); err != nil {
			t.Fatal(err)
		}
		if st, _ := ahead.State(5000); st != blockcache.Lost {
			t.Errorf("evicted unread: %v", st)
		}
		if got := mem.Stats().Wasted[store.ReadAhead]; got != 10_000 {
			t.Errorf("%d bytes wasted, want those that came and were not read", got)
		}
	})
}

// A reader does not wait for a hint of a lower class: it asks on its own, and
// the store joins the two.
func TestDemandOvertakesHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(1000), 1000)
		s.gate = make(chan struct{}, 2)
		mem := blockcache.NewMemory(1 << 20)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 1})
		synctest.Wait()
		done := make(chan error)
		go func() {
			_, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 10), 0)
			done <- err
		}()
		synctest.Wait()
		if got := s.class[x.Chunk(0).ID]; got != store.Demand {
			t.Errorf("the store was asked in class %v last", got)
		}
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if st := mem.Stats(); st.Bytes != 1000 || st.UnderWay != 0 || st.Used[store.ReadAhead] != 1000 || s.live != 1000 {
			t.Errorf("%+v, and %d bytes alive", st, s.live)
		}
	})
}

func TestHintFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(3000), 1000)
		s.setFail(x.Chunk(1).ID, store.ErrRefused)
		mem := blockcache.NewMemory(1 << 20)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		img.View(store.Sweep).Want(blockcache.Range{Off: 0, Len: 3000})
		synctest.Wait()
		if st := mem.Stats(); st.Bytes != 2000 || st.UnderWay != 0 {
			t.Errorf("%+v", st)
		}
		s.setFail(x.Chunk(1).ID, nil)
		if _, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 3000), 0); err != nil {
			t.Error(err)
		}
	})
}

func TestStateOfZeros(t *testing.T) {
	x, s := image(t, make([]byte, 5000), 4096)
	img := blockcache.New(x, s, blockcache.Options{})
	defer img.Close()
	v := img.View(store.Demand)
	for _, tt := range []struct {
		off, end int64
		want     blockcache.State
	}{{0, 4096, blockcache.Resident}, {4999, 5000, blockcache.Resident}, {5000, 5000, blockcache.Absent}, {-1, 5000, blockcache.Absent}} {
		if got, end := v.State(tt.off); got != tt.want || end != tt.end {
			t.Errorf("State(%d) = %v, %d", tt.off, got, end)
		}
	}
}

// Readers of the background whose chunks do not come leave room for demand.
func TestBackgroundLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk = 1000
		data := noise(100 * chunk)
		x, s := image(t, data, chunk)
		stuck := make(chan struct{})
		s.asked = func(ctx context.Context, w store.Want) {
			if w.Class != store.Demand {
				select {
				case <-stuck:
				case <-ctx.Done():
				}
			}
		}
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(40 * chunk)})
		defer img.Close()
		img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 50 * chunk})
		var walk sync.WaitGroup
		for i := range int64(50) {
			walk.Go(func() {
				_, _ = img.View(store.Walk).ReadAt(t.Context(), make([]byte, 10), (49-i)*chunk) // some wait until the end
			})
		}
		synctest.Wait()
		began := time.Now()
		p := make([]byte, 5*chunk)
		if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 90*chunk); err != nil || !bytes.Equal(p, data[90*chunk:95*chunk]) {
			t.Errorf("wrong bytes or %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v for the background", took)
		}
		close(stuck)
		walk.Wait()
	})
}
