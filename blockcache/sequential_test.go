package blockcache_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/prefetch"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/local"
)

// prose is n bytes that zstd halves, as it does programs.
func prose(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < n; {
		if i > 1000 && rng.IntN(2) == 0 {
			i += copy(b[i:], b[i-1000:][:8+rng.IntN(40)])
			continue
		}
		b[i] = byte(rng.IntN(200))
		i++
	}
	return b
}

// localImage puts an image into a store in a folder, compressed.
func localImage(t testing.TB, data []byte, size int) (*index.Index, store.Store) {
	t.Helper()
	backend := local.New(t.TempDir(), local.Options{})
	w, err := store.Writable(backend, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: size, Max: size})
	for ; len(data) > 0; data = data[min(size, len(data)):] {
		plain := data[:min(size, len(data))]
		id := chunker.SHA512_256.Sum(plain)
		if err := w.Put(t.Context(), store.NewChunk(id, chunker.SHA512_256, plain, nil)); err != nil {
			t.Fatal(err)
		}
		if err := b.Append(id, len(plain)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index(), store.Chunks(backend, store.Form{})
}

// BenchmarkSequential reads an image from one end to the other, 128 KiB at a
// time as the kernel does, out of a store in a folder, with all that stands
// between: a queue, the memory and read-ahead.
func BenchmarkSequential(b *testing.B) {
	data := prose(64 << 20)
	x, s := localImage(b, data, 64<<10)
	q := fetch.New(s, fetch.Options{})
	defer q.Close()
	const memory = 16 << 20
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		img := blockcache.New(x, q, blockcache.Options{Memory: blockcache.NewMemory(memory)})
		r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{Memory: memory})
		for off := 0; off < len(data); off += len(p) {
			n, err := r.ReadAt(b.Context(), p, int64(off))
			if err != nil && err != io.EOF || !bytes.Equal(p[:16], data[off:off+16]) {
				b.Fatalf("%d bytes at %d: %v", n, off, err)
			}
		}
		img.Close()
	}
}

// What is in use beside the budget while an image is read whole is little.
func TestHeapBesideBudget(t *testing.T) {
	const size, budget = 12 << 20, 4 << 20
	data := prose(size)
	x, s := localImage(t, data, 64<<10)
	q := fetch.New(s, fetch.Options{})
	defer q.Close()
	img := blockcache.New(x, q, blockcache.Options{Memory: blockcache.NewMemory(budget)})
	defer img.Close()
	r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{Memory: budget})
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools had at the first is gone after the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	p, before, most := make([]byte, 128<<10), live(), int64(0)
	for off := 0; off < size; off += len(p) {
		if n, err := r.ReadAt(t.Context(), p, int64(off)); err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:off+n]) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
		if off%(1<<20) == 0 {
			most = max(most, live()-before)
		}
	}
	if beside := most - budget; beside > 12<<20 {
		t.Errorf("%d KiB of heap beside a budget of %d KiB", beside>>10, budget>>10)
	} else {
		t.Logf("%d KiB of heap beside a budget of %d KiB", beside>>10, budget>>10)
	}
}
