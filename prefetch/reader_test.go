package prefetch_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/prefetch"
	"caravel/store"
)

// sequential reads an image from one end to the other in reads of n bytes.
func sequential(t testing.TB, r *prefetch.Reader, off, end, n int64) {
	t.Helper()
	for p := make([]byte, n); off < end; off += n {
		if _, err := r.ReadAt(t.Context(), p, off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
}

// One reader, 20 ms away: a window's worth of bytes arrives per round trip.
func TestSequentialFillsTheWindow(t *testing.T) {
	x, s := image(t, 512)
	for _, n := range []int64{4 << 10, 128 << 10, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			mem := blockcache.NewMemory(8 << 20)
			img := blockcache.New(x, s, blockcache.Options{Memory: mem})
			defer img.Close()
			const window = 1 << 20
			r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{Window: window})

			half := x.Size() / 2 / n * n
			begin := time.Now()
			sequential(t, r, 0, half, n)
			ramp := time.Since(begin)
			begin = time.Now()
			sequential(t, r, half, x.Size(), n)
			took := time.Since(begin)
			ideal := time.Duration(float64(x.Size()-half) / window * float64(s.delay))
			if took > ideal*10/9 {
				t.Errorf("reads of %d: took %v, the window allows %v", n, took, ideal)
			}
			if extra := ramp - ideal; extra > 8*s.delay {
				t.Errorf("reads of %d: it took %v more to open the window", n, extra)
			}
			if st := r.Stats(); st.Used < x.Size()*95/100 || st.Left != 0 || st.Asked < st.Used {
				t.Errorf("reads of %d: %+v", n, st)
			}
			synctest.Wait()
			if st := mem.Stats(); st.Wasted[store.ReadAhead] != 0 || st.Used[store.ReadAhead] != st.Fetched[store.ReadAhead] {
				t.Errorf("reads of %d: %+v", n, st)
			}
		})
	}
}

func TestRandomGetsNothing(t *testing.T) {
	f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	rng, p := rand.New(rand.NewPCG(3, 4)), make([]byte, 4096)
	for range 50_000 {
		if _, err := r.ReadAt(t.Context(), p, rng.Int64N(f.size>>12)<<12); err != nil {
			t.Fatal(err)
		}
	}
	if f.asked() != 0 || r.Stats() != (prefetch.Stats{}) {
		t.Errorf("%d bytes hinted at: %v", f.asked(), f.hints)
	}
}

// What is read twice in place is no progress.
func TestRereadsGetNothing(t *testing.T) {
	f := &fakeImage{size: 1 << 30}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	for range 50 {
		for _, off := range []int64{4096, 1 << 20, 0, 8 << 20} {
			if _, err := r.ReadAt(t.Context(), make([]byte, 4096), off); err != nil {
				t.Fatal(err)
			}
		}
	}
	if f.asked() != 0 {
		t.Errorf("hinted at %v", f.hints)
	}
}

func TestInterleavedStreams(t *testing.T) {
	f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	rng, p := rand.New(rand.NewPCG(3, 4)), make([]byte, 16<<10)
	bases := []int64{0, 100 << 20, 333 << 20, 900 << 20}
	next := slices.Clone(bases)
	for range 2000 {
		i := rng.IntN(len(next))
		if _, err := r.ReadAt(t.Context(), p, next[i]); err != nil {
			t.Fatal(err)
		}
		next[i] += int64(len(p))
	}
	for i, base := range bases {
		if from := base + 3*int64(len(p)); !f.covered(from, next[i]+chunk) {
			t.Errorf("stream %d: not all from %d to behind %d was hinted at", i, from, next[i])
		}
	}
	if st := r.Stats(); st.Left != 0 {
		t.Errorf("%+v", st)
	}
}

// Sixteen requests in flight arrive in any order among themselves.
func TestReorderedStream(t *testing.T) {
	f := &fakeImage{size: 64 << 20, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{Window: 4 << 20})
	const n = 32 << 10
	rng := rand.New(rand.NewPCG(5, 6))
	var flying []int64
	for off := int64(0); off < f.size || len(flying) > 0; {
		for ; len(flying) < 16 && off < f.size; off += n {
			flying = append(flying, off)
		}
		i := rng.IntN(min(len(flying), 8)) // the oldest do not wait for ever
		if _, err := r.ReadAt(t.Context(), make([]byte, n), flying[i]); err != nil {
			t.Fatal(err)
		}
		flying = slices.Delete(flying, i, i+1)
	}
	if !f.covered(2<<20, f.size) {
		t.Error("not all of the stream was hinted at")
	}
	if st := r.Stats(); st.Left > st.Asked/50 || st.Used < f.size*9/10 {
		t.Errorf("%+v", st)
	}
}

func TestStrides(t *testing.T) {
	tests := []struct {
		name      string
		off, step int64
		reads     int64
	}{
		{"forwards", 4096, 1 << 20, 100},
		{"backwards", 900 << 20, -3 << 20, 100},
		{"reading backwards", 900 << 20, -4096, 1000},
		{"narrow", 0, 16 << 10, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
			r := prefetch.NewReader(f, f, prefetch.Options{Window: 1 << 20})
			rng, p := rand.New(rand.NewPCG(5, 6)), make([]byte, 4096)
			for k := range tt.reads {
				if _, err := r.ReadAt(t.Context(), p, tt.off+k*tt.step); err != nil {
					t.Fatal(err)
				}
				if _, err := r.ReadAt(t.Context(), p, 1+rng.Int64N(f.size-4096)); err != nil { // among others
					t.Fatal(err)
				}
			}
			for k := int64(4); k <= tt.reads; k++ {
				if off := tt.off + k*tt.step; !slices.Contains(f.hints, blockcache.Range{Off: off, Len: 4096}) {
					t.Fatalf("step %d at %d was not hinted at", k, off)
				}
			}
			for _, h := range f.hints {
				if (h.Off-tt.off)%tt.step != 0 || h.Off < 0 || h.Off >= f.size {
					t.Fatalf("hinted at %v", h)
				}
			}
			if st := r.Stats(); st.Used == 0 || st.Asked-st.Used > 1<<20 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A stream of bytes, too, gets hints of a page at the least, the nearest first.
func TestStrideOfBytes(t *testing.T) {
	const from, step = 500 << 20, 3
	f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{Window: 1 << 20})
	for k := range int64(5) {
		if _, err := r.ReadAt(t.Context(), make([]byte, 1), from-step*k); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.hints) == 0 || len(f.hints) > 3*(1<<20)/4096 {
		t.Fatalf("%d hints", len(f.hints))
	}
	if next := int64(from - 4*step); f.hints[0].Off+f.hints[0].Len != next+1 && f.hints[0].Off+f.hints[0].Len != next-step+1+step {
		t.Errorf("first hint %v, want the one before %d", f.hints[0], next)
	}
	for i, h := range f.hints[1:] {
		if before := f.hints[i]; h.Len > 4096 || h.Off < before.Off && h.Off+h.Len != before.Off-step+1 {
			t.Fatalf("%v behind %v", h, before)
		}
	}
}

// A stride ends at the ends of the image.
func TestStrideStopsAtTheEnd(t *testing.T) {
	for _, step := range []int64{1 << 20, -1 << 20} {
		f := &fakeImage{size: 8 << 20}
		r := prefetch.NewReader(f, f, prefetch.Options{})
		for k := range int64(8) {
			off := k << 20
			if step < 0 {
				off = 7<<20 - off
			}
			if _, err := r.ReadAt(t.Context(), make([]byte, 4096), off); err != nil {
				t.Fatal(err)
			}
		}
		if len(f.hints) != 4 {
			t.Errorf("step %d: hinted at %v", step, f.hints)
		}
	}
}

// A reader that never waits needs no more than the smallest window.
func TestSlowReaderKeepsTheWindowSmall(t *testing.T) {
	f := &fakeImage{size: 64 << 20}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	sequential(t, r, 0, 32<<20, 16<<10)
	if st := r.Stats(); st.Asked-st.Used > 2*chunk || st.Used < 31<<20 {
		t.Errorf("%+v", st)
	}
}

// If chunks are evicted before they are read, the window is too large.
func TestWindowShrinksWhenLost(t *testing.T) {
	var state blockcache.State
	f := &fakeImage{size: 256 << 20, state: func(int64) blockcache.State { return state }}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	ahead := func(end int64) int64 { return f.hints[len(f.hints)-1].Off + f.hints[len(f.hints)-1].Len - end }
	state = blockcache.Absent
	sequential(t, r, 0, 64<<20, chunk)
	if got := ahead(64 << 20); got != 16<<20 {
		t.Errorf("%d bytes ahead of a reader that waits", got)
	}
	state = blockcache.Lost
	sequential(t, r, 64<<20, 128<<20, chunk)
	if got := ahead(128 << 20); got > chunk {
		t.Errorf("%d bytes ahead where nothing can be kept", got)
	}
}

// Streams that end early cost less and less, and a long one opens the window
// again.
func TestShortStreamsLowerTheLimit(t *testing.T) {
	f := &fakeImage{size: 1 << 40, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	const length = 1 << 20
	sequence := func(from, to int64) int64 {
		before := r.Stats().Asked
		for i := from; i < to; i++ {
			sequential(t, r, i<<30, i<<30+length, chunk)
		}
		return (r.Stats().Asked - before) / (to - from)
	}
	first, late := sequence(0, 10), sequence(200, 300)
	if late > length*3/2 || late > first*3/4 {
		t.Errorf("streams of %d bytes: %d asked for at first, %d in the end", length, first, late)
	}
	sequential(t, r, 400<<30, 400<<30+256<<20, chunk)
	if last := f.hints[len(f.hints)-1]; last.Off+last.Len != 400<<30+256<<20+16<<20 {
		t.Errorf("a long stream ends with %v", last)
	}
}

func TestReaderPassesOn(t *testing.T) {
	f := &fakeImage{size: 1000}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	if r.Size() != 1000 {
		t.Errorf("size %d", r.Size())
	}
	for _, tt := range []struct {
		off  int64
		n    int
		want int
		err  error
	}{{0, 10, 10, nil}, {990, 20, 10, io.EOF}, {1000, 1, 0, io.EOF}, {0, 0, 0, nil}} {
		if n, err := r.ReadAt(t.Context(), make([]byte, tt.n), tt.off); n != tt.want || err != tt.err {
			t.Errorf("%d bytes at %d: %d, %v", tt.n, tt.off, n, err)
		}
	}
}

// A reader that is cancelled leaves; what was hinted at goes on.
func TestCancelledReader(t *testing.T) {
	x, s := image(t, 64)
	synctest.Test(t, func(t *testing.T) {
		mem := blockcache.NewMemory(4 << 20)
		img := blockcache.New(x, s, blockcache.Options{Memory: mem})
		defer img.Close()
		r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{})
		sequential(t, r, 0, 4*chunk, chunk)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := r.ReadAt(ctx, make([]byte, chunk), 40*chunk)
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(s.delay)
		synctest.Wait()
		begin := time.Now()
		sequential(t, r, 4*chunk, 5*chunk, chunk)
		if took := time.Since(begin); took != 0 {
			t.Errorf("the hinted chunk took %v", took)
		}
	})
}

func TestManyReaders(t *testing.T) {
	x, s := image(t, 256)
	s.delay = 0
	mem := blockcache.NewMemory(2 << 20)
	img := blockcache.New(x, s, blockcache.Options{Memory: mem})
	defer img.Close()
	r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{Memory: 2 << 20})
	var wg sync.WaitGroup
	for g := range int64(64) {
		wg.Go(func() { sequential(t, r, g*4*chunk, g*4*chunk+8*chunk, 16<<10) })
	}
	wg.Wait()
	if st := r.Stats(); st.Used > st.Asked {
		t.Errorf("%+v", st)
	}
}

// BenchmarkObserve is what watching costs a random reader and a sequential one.
func BenchmarkObserve(b *testing.B) {
	p := make([]byte, 4096)
	b.Run("random", func(b *testing.B) {
		f := &fakeImage{size: 1 << 40}
		r := prefetch.NewReader(f, f, prefetch.Options{})
		rng := rand.New(rand.NewPCG(1, 2))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = r.ReadAt(b.Context(), p, rng.Int64N(f.size>>12)<<12)
		}
		if f.asked() > b.Elapsed().Nanoseconds() {
			b.Error("hints for a random reader")
		}
	})
	b.Run("sequential", func(b *testing.B) {
		f := &fakeImage{size: 1 << 40}
		r := prefetch.NewReader(f, f, prefetch.Options{})
		b.ReportAllocs()
		off := int64(0)
		for ; b.Loop(); off += 4096 {
			_, _ = r.ReadAt(b.Context(), p, off)
		}
		if off > 1<<20 && f.asked() < off/2 {
			b.Error("no hints for a sequential reader")
		}
	})
}

// The readers of a tree's files learn from each other, and count together; what
// is left unread counts when a file is closed.
func TestGroup(t *testing.T) {
	f := &fakeImage{size: 1 << 40, state: func(int64) blockcache.State { return blockcache.Absent }}
	group := new(prefetch.Group)
	open := func(length int64) (asked int64) {
		before := f.asked()
		r := prefetch.NewReader(f, f, prefetch.Options{Group: group})
		sequential(t, r, 0, length, chunk)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if st := r.Stats(); st != group.Stats() || st.Asked != st.Used+st.Left {
			t.Errorf("%+v", st)
		}
		return f.asked() - before
	}
	const length = 1 << 20
	first := open(length)
	for range 50 {
		open(length)
	}
	if last := open(length); last > first*3/4 {
		t.Errorf("the first file had %d bytes asked for, the last one %d", first, last)
	}
}

// A reader that is closed has forgotten its streams, of both kinds, and finds new
// ones.
func TestReaderAfterClose(t *testing.T) {
	f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{})
	for range 3 {
		before := r.Stats()
		sequential(t, r, 0, 4<<20, chunk)
		for k := range int64(20) {
			if _, err := r.ReadAt(t.Context(), make([]byte, 4096), 500<<20+k<<20); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		st := r.Stats()
		if st.Asked == before.Asked || st.Left == before.Left || st.Asked != st.Used+st.Left {
			t.Errorf("%+v", st)
		}
	}
}

func TestMetered(t *testing.T) {
	f := &fakeImage{size: 1 << 30, state: func(int64) blockcache.State { return blockcache.Absent }}
	r := prefetch.NewReader(f, f, prefetch.Options{Metered: true})
	sequential(t, r, 0, 64<<20, chunk)
	if last := f.hints[len(f.hints)-1]; last.Off+last.Len != 64<<20+4*chunk {
		t.Errorf("the last hint is %v", last)
	}
}
