package nbd_test

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"testing"
	"time"

	"caravel/nbd"
)

type fileReader struct{ *os.File }

func (f fileReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.ReadAt(p, off)
}

// memory is an export that is in memory.
type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if n := copy(p, m[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

// BenchmarkRead is one connection with so many reads in flight, on a memory
// that needs no time, and on one that needs 20 ms each time.
func BenchmarkRead(b *testing.B) {
	data := memory(patterned(0, 64*mib))
	late := readerFunc(func(ctx context.Context, p []byte, off int64) (int, error) {
		time.Sleep(20 * time.Millisecond)
		return data.ReadAt(ctx, p, off)
	})
	for _, bm := range []struct {
		name  string
		r     nbd.Reader
		size  int
		depth int
	}{
		{"memory/4k/qd1", data, 4 << 10, 1},
		{"memory/4k/qd16", data, 4 << 10, 16},
		{"memory/4k/qd64", data, 4 << 10, 64},
		{"memory/256k/qd4", data, 256 << 10, 4},
		{"memory/1M/qd4", data, mib, 4},
		{"20ms/4k/qd16", late, 4 << 10, 16},
	} {
		b.Run(bm.name, func(b *testing.B) { benchmarkRead(b, bm.r, bm.size, bm.depth) })
	}
}

func benchmarkRead(b *testing.B, r nbd.Reader, size, depth int) {
	c := open(b, serve(b, nbd.Options{}, nbd.Export{Size: 64 * mib, Reader: r}), "", false)
	offset := func(i uint64) uint64 { return i * 7919 * 4096 % uint64(64*mib-size) &^ 4095 }
	next := uint64(0)
	for range depth {
		c.request(0, cmdRead, next, offset(next), uint32(size))
		next++
	}
	reply := make([]byte, 16+size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(c.Conn, reply); err != nil {
			b.Fatal(err)
		}
		i := binary.BigEndian.Uint64(reply[8:])
		if last := reply[15+size]; last != pattern(int64(offset(i))+int64(size)-1) {
			b.Fatalf("request %d: last byte %#x", i, last)
		}
		c.Write(requestBytes(0, cmdRead, next, offset(next), uint32(size)))
		next++
	}
}
