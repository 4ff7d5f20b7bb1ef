package blockcache_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"caravel/blockcache"
	"caravel/store"
)

// BenchmarkHit reads 4 KiB at random places of what is in memory, in one and
// in sixteen goroutines.
func BenchmarkHit(b *testing.B) {
	data := noise(32 << 20)
	x, s := image(b, data, 64<<10)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(64 << 20)})
	defer img.Close()
	v := img.View(store.Demand)
	if _, err := v.ReadAt(b.Context(), make([]byte, len(data)), 0); err != nil {
		b.Fatal(err)
	}
	one := func(rng *rand.Rand, p []byte) {
		off := rng.Int64N(int64(len(data))>>12) << 12
		if _, err := v.ReadAt(b.Context(), p, off); err != nil || !bytes.Equal(p[:8], data[off:off+8]) {
			b.Errorf("wrong bytes at %d or %v", off, err)
		}
	}
	b.Run("1", func(b *testing.B) {
		b.SetBytes(4096)
		b.ReportAllocs()
		rng, p := rand.New(rand.NewPCG(1, 1)), make([]byte, 4096)
		for b.Loop() {
			one(rng, p)
		}
	})
	b.Run("16", func(b *testing.B) {
		b.SetBytes(4096)
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			rng, p := rand.New(rand.NewPCG(rand.Uint64(), 1)), make([]byte, 4096)
			for pb.Next() {
				one(rng, p)
			}
		})
	})
}

// BenchmarkFile reads what a materialised file has, which memory does not hold.
func BenchmarkFile(b *testing.B) {
	data := noise(32 << 20)
	x, s := image(b, data, 64<<10)
	f := openFile(b, filepath.Join(b.TempDir(), "f"), x, 0, x.Size())
	img := blockcache.New(x, s, blockcache.Options{})
	img.Attach(f)
	defer img.Close()
	if err := img.Fill(b.Context(), f, store.Sweep); err != nil {
		b.Fatal(err)
	}
	v, rng := img.View(store.Demand), rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{4 << 10, 128 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			p := make([]byte, size)
			for b.Loop() {
				off := rng.Int64N(x.Size()/int64(size)) * int64(size)
				if _, err := v.ReadAt(b.Context(), p, off); err != nil || !bytes.Equal(p[:8], data[off:off+8]) {
					b.Fatalf("wrong bytes at %d or %v", off, err)
				}
			}
		})
	}
}

// BenchmarkMiss reads 4 KiB out of chunks that are never in memory, from a
// store that costs a copy of 64 KiB.
func BenchmarkMiss(b *testing.B) {
	x, s := image(b, noise(8<<20), 64<<10)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
	defer img.Close()
	v, p := img.View(store.Demand), make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for off := int64(0); b.Loop(); off = (off + 64<<10) % (8 << 20) {
		if _, err := v.ReadAt(b.Context(), p, off); err != nil {
			b.Fatal(err)
		}
	}
	if st := img.Stats(); st.Hits() != 0 {
		b.Errorf("%d hits", st.Hits())
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	x, s := image(t, noise(64<<10), 64<<10)
	img := blockcache.New(x, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
	defer img.Close()
	v, p := img.View(store.Demand), make([]byte, 4096)
	read := func() {
		if _, err := v.ReadAt(t.Context(), p, 8192); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations for a hit", n)
	}
}
