package prefetch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
	"caravel/store/fetch"
)

// A bringer brings after a while.
type bringer struct {
	delay  time.Duration
	fail   func(row int) error
	noRoom int // there is none for rows below

	mu        sync.Mutex // guards what follows
	here      map[int]bool
	begun     map[int]time.Time
	now, most int
}

func newBringer(fail func(row int) error) *bringer {
	return &bringer{delay: 20 * time.Millisecond, fail: fail, here: map[int]bool{}, begun: map[int]time.Time{}}
}

func (b *bringer) Bring(ctx context.Context, row int) (blockcache.Outcome, error) {
	b.mu.Lock()
	b.begun[row] = time.Now()
	here := b.here[row]
	b.now++
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.now--
		b.mu.Unlock()
	}()
	if here {
		return blockcache.Here, nil
	}
	if row < b.noRoom {
		return blockcache.NoRoom, nil
	}
	select {
	case <-time.After(b.delay):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if b.fail != nil && b.fail(row) != nil {
		return 0, b.fail(row)
	}
	return blockcache.Fetched, nil
}

func TestReplay(t *testing.T) {
	rows := rand.New(rand.NewPCG(1, 2)).Perm(300)
	tests := []struct {
		name string
		opt  prefetch.ReplayOptions
		here int
		fail func(int) error
		room int // rows for which there is none
		want prefetch.ReplayStats
		most int
		took time.Duration
	}{
		{"all", prefetch.ReplayOptions{}, 0, nil, 0,
			prefetch.ReplayStats{Wanted: 300, Fetched: 300}, 128, 60 * time.Millisecond},
		{"few at a time", prefetch.ReplayOptions{Requests: 10}, 0, nil, 0,
			prefetch.ReplayStats{Wanted: 300, Fetched: 300}, 10, 600 * time.Millisecond},
		{"some are there", prefetch.ReplayOptions{Requests: 10}, 100, nil, 0,
			prefetch.ReplayStats{Wanted: 300, Fetched: 200, Present: 100}, 10, 400 * time.Millisecond},
		{"some do not come", prefetch.ReplayOptions{}, 0,
			func(row int) error {
				if row%3 == 0 {
					return store.ErrMissing
				}
				return nil
			}, 0,
			prefetch.ReplayStats{Wanted: 300, Fetched: 200, Failed: 100}, 128, 60 * time.Millisecond},
		{"there is no room", prefetch.ReplayOptions{Requests: 10}, 0, nil, 100,
			prefetch.ReplayStats{Wanted: 300, Fetched: 200, NoRoom: 100}, 10, 400 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBringer(tt.fail)
				b.noRoom = tt.room
				for _, row := range rows[:tt.here] {
					b.here[row] = true
				}
				var reports []prefetch.ReplayStats
				tt.opt.Progress = func(st prefetch.ReplayStats) { reports = append(reports, st) }
				begin := time.Now()
				st := prefetch.Replay(t.Context(), rows, b, tt.opt)
				if st != tt.want || len(reports) != len(rows) || reports[len(rows)-1] != st {
					t.Errorf("%+v after %d reports, want %+v", st, len(reports), tt.want)
				}
				if took := time.Since(begin); took != tt.took || b.most != tt.most {
					t.Errorf("took %v with %d at once, want %v with %d", took, b.most, tt.took, tt.most)
				}
				for i := range rows[1:] {
					if b.begun[rows[i+1]].Before(b.begun[rows[i]]) {
						t.Fatalf("row %d begins before row %d", rows[i+1], rows[i])
					}
				}
			})
		})
	}
}

func TestReplayOfNothing(t *testing.T) {
	if st := prefetch.Replay(t.Context(), nil, newBringer(nil), prefetch.ReplayOptions{}); st != (prefetch.ReplayStats{}) {
		t.Errorf("%+v", st)
	}
}

// A replay ends with its context, and leaves nothing behind: synctest fails a
// test that leaves a goroutine.
func TestReplayCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		b := newBringer(func(int) error { return errors.New("down") })
		begin := time.Now()
		st := prefetch.Replay(ctx, make([]int, 1000), b, prefetch.ReplayOptions{})
		if st != (prefetch.ReplayStats{Wanted: 1000, Failed: 128}) || time.Since(begin) != 30*time.Millisecond {
			t.Errorf("%+v after %v", st, time.Since(begin))
		}
	})
}

// A link is an origin that answers 20 ms late, over 1 Gbit/s.
type link struct {
	plain map[chunker.ID][]byte

	mu    sync.Mutex // guards what follows
	free  time.Time  // when the last byte of what was asked for has gone through
	bytes int64
}

func (l *link) Get(ctx context.Context, w store.Want) (*store.Chunk, error) {
	b := l.plain[w.ID]
	at := time.Now().Add(20 * time.Millisecond)
	l.mu.Lock()
	if l.free.Before(at) {
		l.free = at
	}
	l.free = l.free.Add(time.Duration(len(b)) * time.Second / 125_000_000)
	l.bytes += int64(len(b))
	rest := time.Until(l.free)
	l.mu.Unlock()
	select {
	case <-time.After(rest):
		return store.NewChunk(w.ID, w.Digest, b, nil), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) Has(context.Context, store.Want) (bool, error) { return true, nil }

// build is an image of chunks of size bytes behind a link, and the rows that a
// build touches, in its order: 535, mostly in short runs.
func build(t testing.TB, n, size int) (*index.Index, *link, []int) {
	t.Helper()
	data := make([]byte, n*size)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(data)
	l := &link{plain: make(map[chunker.ID][]byte)}
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.Params{Min: size, Avg: size, Max: size})
	for ; len(data) > 0; data = data[size:] {
		id := chunker.SHA256.Sum(data[:size])
		l.plain[id] = data[:size:size]
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
	}
	var rows []int
	rng := rand.New(rand.NewPCG(1, 2))
	for len(rows) < 535 {
		for row, left := rng.IntN(n), 1+rng.IntN(4); left > 0 && row < n && len(rows) < 535; row, left = row+1, left-1 {
			if !slices.Contains(rows, row) {
				rows = append(rows, row)
			}
		}
	}
	return b.Index(), l, rows
}

// The chunks of a build come in bulk, and when it asks for one, that is there or
// on its way, however fast it asks.
func TestReplayOfABuild(t *testing.T) {
	const size = 18_500 // packed, of 64 KiB
	x, far, rows := build(t, 1000, size)
	for _, pace := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			far.bytes, far.free = 0, time.Time{}
			q := fetch.New(far, fetch.Options{})
			defer q.Close()
			mem := blockcache.NewMemory(64 << 20)
			rec := prefetch.NewRecorder(x.Len())
			img := blockcache.New(x, q, blockcache.Options{Memory: mem, Touched: rec.Touch})
			defer img.Close()

			begin, took := time.Now(), time.Duration(0)
			var st prefetch.ReplayStats
			var replay sync.WaitGroup
			replay.Go(func() {
				profile := touched(x, rows...)
				st = prefetch.Replay(t.Context(), profile.Rows(x), img.View(store.Profile), prefetch.ReplayOptions{})
				took = time.Since(begin)
			})
			synctest.Wait()
			view, p := img.View(store.Demand), make([]byte, size)
			for _, row := range rows {
				if _, err := view.ReadAt(t.Context(), p, x.Chunk(row).Start); err != nil {
					t.Fatal(err)
				}
				time.Sleep(pace)
			}
			read := time.Since(begin)
			replay.Wait()

			if took > 300*time.Millisecond {
				t.Errorf("pace %v: took %v", pace, took)
			}
			if read > took+time.Duration(len(rows))*pace {
				t.Errorf("pace %v: read after %v, replayed after %v", pace, read, took)
			}
			if far.bytes != int64(len(rows))*size || st.Fetched+st.Present != int64(len(rows)) {
				t.Errorf("pace %v: %d bytes came, %+v", pace, far.bytes, st)
			}
			alone := img.Stats().Misses - q.Stats().Class[store.Demand].Joined
			if alone > int64(len(rows))/20 {
				t.Errorf("pace %v: %d reads of %d found nothing under way", pace, alone, len(rows))
			}
			if got := rec.Profile(x); !slices.Equal(got.Rows(x), rows) {
				t.Errorf("pace %v: what was read is not what was recorded", pace)
			}
		})
	}
}

// A profile that is larger than the memory goes on as its reader does, and brings
// each chunk once.
func TestReplayBeyondMemory(t *testing.T) {
	const size = 18_500
	x, far, rows := build(t, 1000, size)
	synctest.Test(t, func(t *testing.T) {
		q := fetch.New(far, fetch.Options{})
		defer q.Close()
		mem := blockcache.NewMemory(4 << 20)
		img := blockcache.New(x, q, blockcache.Options{Memory: mem})
		defer img.Close()
		var st prefetch.ReplayStats
		var replay sync.WaitGroup
		replay.Go(func() {
			st = prefetch.Replay(t.Context(), rows, img.View(store.Profile), prefetch.ReplayOptions{})
		})
		time.Sleep(time.Second)
		if got := mem.Stats().Bytes; got > 2<<20 || got < 2<<20-size {
			t.Errorf("%d bytes in memory before anything was read, want half of it", got)
		}
		view, p := img.View(store.Demand), make([]byte, size)
		for _, row := range rows {
			if _, err := view.ReadAt(t.Context(), p, x.Chunk(row).Start); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		replay.Wait()
		if far.bytes != int64(len(rows))*size || st.Fetched+st.Present != int64(len(rows)) || mem.Stats().Wasted[store.Profile] != 0 {
			t.Errorf("%d bytes came for %d chunks, %+v", far.bytes, len(rows), st)
		}
		if alone := img.Stats().Misses - q.Stats().Class[store.Demand].Joined; alone > int64(len(rows))/20 {
			t.Errorf("%d reads of %d found nothing under way", alone, len(rows))
		}
	})
}

// BenchmarkReplay is what a replay costs beside the fetching.
func BenchmarkReplay(b *testing.B) {
	rows := make([]int, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if st := prefetch.Replay(b.Context(), rows, instant{}, prefetch.ReplayOptions{}); st.Fetched != int64(len(rows)) {
			b.Fatalf("%+v", st)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/chunk")
}

type instant struct{}

func (instant) Bring(context.Context, int) (blockcache.Outcome, error) {
	return blockcache.Fetched, nil
}
