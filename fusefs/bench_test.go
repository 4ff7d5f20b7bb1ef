//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// inMemory costs a copy a read, as a chunk in memory does.
type inMemory []byte

func (m inMemory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

const benchSize = 256 << 20

func benchFile(b *testing.B, flags int) int {
	b.Helper()
	_, path := mounted(b, fusefs.File{Size: benchSize, Reader: inMemory(make([]byte, benchSize))}, fusefs.Options{})
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return fd
}

// BenchmarkPassthrough reads a file that the kernel reads by itself, beside the
// file that it reads.
func BenchmarkPassthrough(b *testing.B) {
	canPass(b)
	file := fileOf(b, 0, benchSize)
	r := newBacked(benchSize)
	r.file.Store(file)
	_, path := mounted(b, fusefs.File{Size: benchSize, Reader: r}, fusefs.Options{})
	for _, tt := range [][2]string{{"mounted", path}, {"itself", file.Name()}} {
		fd, err := unix.Open(tt[1], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		b.Run("sequential, "+tt[0], func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				readAll(b, fd)
			}
		})
		b.Run("random, "+tt[0], func(b *testing.B) {
			readRandom(b, fd, 1, b.Loop)
		})
		b.Run("open and close, "+tt[0], func(b *testing.B) {
			for b.Loop() {
				again, err := unix.Open(tt[1], unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				unix.Close(again)
			}
		})
	}
	if n := r.reads.Load(); n != 0 {
		b.Errorf("%d reads came here", n)
	}
}

// readRandom reads 4 KiB here and there for as long as next says.
func readRandom(b *testing.B, fd int, seed uint64, next func() bool) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	buf := alignedPages(4096)
	for next() {
		if n, err := unix.Pread(fd, buf, 4096*rnd.Int64N(benchSize/4096)); n != len(buf) || err != nil {
			b.Error(n, err)
			return
		}
	}
}

func readAll(b *testing.B, fd int) {
	b.Helper()
	buf := alignedPages(1 << 20)
	for off := int64(0); off < benchSize; off += int64(len(buf)) {
		if n, err := unix.Pread(fd, buf, off); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// alignedPages are fit for O_DIRECT.
func alignedPages(n int) []byte {
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return p
}

func BenchmarkSequential(b *testing.B) {
	for name, flags := range map[string]int{"cold": 0, "direct": unix.O_DIRECT} {
		b.Run(name, func(b *testing.B) {
			fd := benchFile(b, flags)
			b.SetBytes(benchSize)
			for b.Loop() {
				if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
					b.Fatal(err)
				}
				readAll(b, fd)
			}
		})
	}
	b.Run("warm", func(b *testing.B) {
		fd := benchFile(b, 0)
		readAll(b, fd)
		b.SetBytes(benchSize)
		for b.Loop() {
			readAll(b, fd)
		}
	})
}

// BenchmarkRandom reads 4 KiB at a time: through the daemon, or from what the
// kernel keeps; by one reader or by 16.
func BenchmarkRandom(b *testing.B) {
	for _, tt := range []struct {
		name    string
		flags   int
		readers int // per CPU
	}{{"direct", unix.O_DIRECT, 1}, {"direct, many", unix.O_DIRECT, 8}, {"warm", 0, 1}} {
		b.Run(tt.name, func(b *testing.B) {
			fd := benchFile(b, tt.flags)
			if tt.flags == 0 {
				readAll(b, fd)
			}
			var seed atomic.Uint64
			b.ReportAllocs()
			if tt.readers == 1 {
				readRandom(b, fd, 1, b.Loop)
				return
			}
			b.SetParallelism(tt.readers)
			b.RunParallel(func(pb *testing.PB) { readRandom(b, fd, seed.Add(1), pb.Next) })
		})
	}
}
