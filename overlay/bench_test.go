package overlay_test

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"caravel/overlay"
)

// A plainFile is the disk without an overlay.
type plainFile struct{ *os.File }

func (f plainFile) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.ReadAt(p, off)
}

func (f plainFile) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.WriteAt(p, off)
}

type disk interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
}

// BenchmarkRandom reads and writes 4 KiB at random places of 256 MiB, from 16
// goroutines: in an overlay that has all blocks, and beside it in a plain file.
// "first" are the writes to an overlay that has none.
func BenchmarkRandom(b *testing.B) {
	const size, block = 256 << 20, 4096
	full := func(b *testing.B) disk {
		d := open(b, temp(b), &memory{}, size, overlay.Options{})
		fill(b, d, size)
		return d
	}
	plain := func(b *testing.B) disk {
		f, err := os.Create(temp(b))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		fill(b, plainFile{f}, size)
		return plainFile{f}
	}
	for _, tt := range []struct {
		name string
		disk func(b *testing.B) disk
	}{{"overlay", full}, {"file", plain}} {
		b.Run("read/"+tt.name, func(b *testing.B) {
			d := tt.disk(b)
			sixteen(b, size/block, func(p []byte, i int) error { return second(d.ReadAt(b.Context(), p, int64(i)*block)) })
		})
		b.Run("write/"+tt.name, func(b *testing.B) {
			d := tt.disk(b)
			sixteen(b, size/block, func(p []byte, i int) error { return second(d.WriteAt(b.Context(), p, int64(i)*block)) })
		})
	}
	b.Run("first/overlay", func(b *testing.B) {
		var d disk = open(b, temp(b), &memory{}, 1<<40, overlay.Options{})
		sixteen(b, 1<<20, func(p []byte, i int) error { return second(d.WriteAt(b.Context(), p, int64(i)*block)) })
	})
	b.Run("first/file", func(b *testing.B) {
		f, err := os.Create(temp(b))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		sixteen(b, 1<<20, func(p []byte, i int) error { return second(f.WriteAt(p, int64(i)*block)) })
	})
}

func fill(b *testing.B, d disk, size int64) {
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = 1
	}
	for off := int64(0); off < size; off += int64(len(p)) {
		if _, err := d.WriteAt(b.Context(), p, off); err != nil {
			b.Fatal(err)
		}
	}
}

// sixteen runs b.N times do, for one of so many blocks, in 16 goroutines.
func sixteen(b *testing.B, blocks int, do func(p []byte, i int) error) {
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			rng, p := rand.New(rand.NewPCG(uint64(g), 0)), make([]byte, 4096)
			for range b.N/16 + 1 {
				if err := do(p, rng.IntN(blocks)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
