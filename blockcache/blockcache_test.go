package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

func TestReadAtRules(t *testing.T) {
	data := noise(10_000)
	x, s := image(t, data, 100, 1, 999, 4096)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
	defer img.Close()
	v := img.View(store.Demand)
	if v.Size() != int64(len(data)) {
		t.Fatalf("size %d", v.Size())
	}
	tests := []struct {
		name   string
		off    int64
		n      int
		want   int
		err    error
		closed bool
	}{
		{"all", 0, 10_000, 10_000, nil, false},
		{"one byte over", 0, 10_001, 10_000, io.EOF, false},
		{"inside a chunk", 150, 20, 20, nil, false},
		{"over borders", 99, 1003, 1003, nil, false},
		{"the last byte", 9_999, 1, 1, nil, false},
		{"over the end", 9_999, 2, 1, io.EOF, false},
		{"at the end", 10_000, 1, 0, io.EOF, false},
		{"behind the end", 1 << 62, 1, 0, io.EOF, false},
		{"nothing", 5, 0, 0, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := make([]byte, tt.n)
			n, err := v.ReadAt(t.Context(), p, tt.off)
			if n != tt.want || err != tt.err {
				t.Fatalf("got %d, %v; want %d, %v", n, err, tt.want, tt.err)
			}
			if n > 0 && !bytes.Equal(p[:n], data[tt.off:tt.off+int64(n)]) {
				t.Error("wrong bytes")
			}
		})
	}
	if _, err := v.ReadAt(t.Context(), make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was accepted")
	}
	if got := s.asks(); got != x.Len() {
		t.Errorf("%d requests for %d chunks", got, x.Len())
	}
}

func TestRandomReads(t *testing.T) {
	data := noise(1 << 20)
	for _, budget := range []int64{0, 3000, 100_000, 8 << 20} {
		x, s := image(t, data, 5000, 100, 1, 70_000, 4096)
		s.unproof = true
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(budget)})
		rng := rand.New(rand.NewPCG(1, 2))
		v := img.View(store.Demand)
		for range 300 {
			off, p := rng.Int64N(1<<20), make([]byte, rng.IntN(200_000))
			n, err := v.ReadAt(t.Context(), p, off)
			if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:][:n]) {
				t.Fatalf("budget %d: %d bytes at %d: %d, %v", budget, len(p), off, n, err)
			}
		}
		img.Close()
	}
}

// All missing chunks of one read travel together.
func TestMissesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(200 * 1000)
		x, s := image(t, data, 1000)
		s.delay = 20 * time.Millisecond
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
		defer img.Close()
		p, begin := make([]byte, len(data)), time.Now()
		if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
			t.Fatalf("wrong bytes or %v", err)
		}
		if took := time.Since(begin); took != s.delay {
			t.Errorf("took %v, want one round trip", took)
		}
		if st := img.Stats(); st != (blockcache.Stats{Misses: 200, Waits: 1, Waited: s.delay, Bytes: int64(len(data))}) {
			t.Errorf("%+v", st)
		}
	})
}

func TestZerosAreNotFetched(t *testing.T) {
	data := append(make([]byte, 3*4096), noise(4096)...)
	data = append(data, make([]byte, 4096+100)...)
	x, s := image(t, data, 4096)
	img := blockcache.New(x, s, blockcache.Options{})
	defer img.Close()
	p := bytes.Repeat([]byte{1}, len(data))
	if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
		t.Fatalf("wrong bytes or %v", err)
	}
	if s.asks() != 1 {
		t.Errorf("%d requests, want that for the chunk of noise", s.asks())
	}
}

func TestBadChunk(t *testing.T) {
	data := noise(5000)
	x, s := image(t, data, 1000)
	id := x.Chunk(2).ID
	bad := func(plain []byte) func(store.Want) *store.Chunk {
		return func(w store.Want) *store.Chunk {
			if w.ID != id {
				return nil
			}
			return store.NewStored(w, "fake/bad", store.None, plain, nil)
		}
	}
	flipped := bytes.Clone(data[2000:3000])
	flipped[7] ^= 1
	tests := []struct {
		name   string
		answer func(store.Want) *store.Chunk
		fail   error
		want   string
	}{
		{"flipped bit", bad(flipped), nil, "digest mismatch"},
		{"short", bad(data[2000:2999]), nil, "999 bytes, the index says 1000"},
		{"empty", bad(nil), nil, "0 bytes, the index says 1000"},
		{"another chunk", func(w store.Want) *store.Chunk {
			if w.ID != id {
				return nil
			}
			return store.NewChunk(x.Chunk(0).ID, w.Digest, bytes.Clone(data[:1000]), nil)
		}, nil, "another chunk"},
		{"missing", nil, &store.MissingError{ID: id, Where: "fake"}, "not in fake"},
		{"dead store", nil, errors.New("connection refused"), "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
			defer img.Close()
			v := img.View(store.Demand)
			s.answer = tt.answer
			s.setFail(id, tt.fail)
			p := make([]byte, 5000)
			n, err := v.ReadAt(t.Context(), p[:4900], 100)
			if n != 1900 || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %d, %v; want 1900 and %q", n, err, tt.want)
			}
			if !strings.Contains(err.Error(), "offset 2000, chunk number 2: ") {
				t.Errorf("%v: does not say where", err)
			}
			if !bytes.Equal(p[:n], data[100:2000]) {
				t.Error("the bytes before the bad chunk are wrong")
			}
			for _, off := range []int64{0, 3000} { // the others are as good as ever
				if _, err := v.ReadAt(t.Context(), p[:2000], off); err != nil {
					t.Errorf("offset %d: %v", off, err)
				}
			}
			s.answer = nil
			s.setFail(id, nil)
			if _, err := v.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
				t.Errorf("after the repair: wrong bytes or %v", err)
			}
		})
	}
}

// Two indexes can claim different sizes for one ID; memory has the true one.
func TestForgedSize(t *testing.T) {
	data := noise(1000)
	x, s := image(t, data, 1000)
	mem := blockcache.NewMemory(1 << 20)
	img := blockcache.New(x, s, blockcache.Options{Memory: mem})
	defer img.Close()
	p := make([]byte, 1500)
	if _, err := img.View(store.Demand).ReadAt(t.Context(), p[:1000], 0); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{500, 1500} {
		b := index.NewBuilder(x.Flags, chunker.Params{Min: 1, Avg: 1500, Max: 1500})
		if err := b.Append(x.Chunk(0).ID, size); err != nil {
			t.Fatal(err)
		}
		forged := blockcache.New(b.Index(), s, blockcache.Options{Memory: mem})
		n, err := forged.View(store.Demand).ReadAt(t.Context(), p[:size], 0)
		if n != 0 || !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("size %d: got %d, %v", size, n, err)
		}
		forged.Close()
	}
}

func TestCancelledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(3000)
		x, s := image(t, data, 1000)
		s.gate = make(chan struct{}, 10)
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
		defer img.Close()
		gone := errors.New("the reader is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var first, second error
		var wg sync.WaitGroup
		p := make([]byte, 3000)
		wg.Go(func() { _, first = img.View(store.Demand).ReadAt(ctx, make([]byte, 3000), 0) })
		wg.Go(func() { _, second = img.View(store.Demand).ReadAt(t.Context(), p, 0) })
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		for range 3 {
			s.gate <- struct{}{}
		}
		wg.Wait()
		if !errors.Is(first, gone) {
			t.Errorf("the cancelled reader got %v", first)
		}
		if second != nil || !bytes.Equal(p, data) {
			t.Errorf("the other got wrong bytes or %v", second)
		}
	})
}

func TestCloseWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(64_000), 1000)
		s.gate = make(chan struct{})
		img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(32_000)})
		errs := make(chan error, 8)
		for i := range cap(errs) {
			go func() {
				_, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 8000), int64(i)*8000)
				errs <- err
			}()
		}
		img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 64_000})
		synctest.Wait() // all of them wait for the gate, or for room
		if err := img.Close(); err != nil {
			t.Fatal(err)
		}
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, fs.ErrClosed) {
				t.Errorf("a reader got %v", err)
			}
		}
		if _, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a read after Close: %v", err)
		}
		asked := s.asks()
		img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 64_000})
		synctest.Wait()
		if s.asks() != asked {
			t.Error("a hint after Close was followed")
		}
		if s.live != 0 {
			t.Errorf("%d bytes of chunks were not released", s.live)
		}
	}) // fails if a goroutine is left
}
