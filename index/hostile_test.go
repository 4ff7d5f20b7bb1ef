package index_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"caravel/index"
)

// setEnd changes where chunk i ends, wherever that is read.
func setEnd(i int, end uint64) func([]byte, int64) {
	return func(p []byte, off int64) {
		if at := 64 + 40*int64(i) - off; at >= 0 && at+8 <= int64(len(p)) {
			binary.LittleEndian.PutUint64(p[at:], end)
		}
	}
}

// What no index may have is an error for ever: for NewRemote at the ends, for who
// comes near it, and for Fill in any case.
func TestRemoteHostile(t *testing.T) {
	const n = 100_000
	src := newTable(n, dataSize)
	end := func(i int) uint64 {
		x := newRemote(t, src)
		c, err := x.Row(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		return uint64(c.End())
	}
	header := func(i int, v uint64) func([]byte, int64) {
		return func(p []byte, off int64) {
			if off == 0 {
				binary.LittleEndian.PutUint64(p[8*i:], v)
			}
		}
	}
	tail := func(i int, v uint64) func([]byte, int64) {
		return func(p []byte, off int64) {
			if off+int64(len(p)) == src.Size() {
				binary.LittleEndian.PutUint64(p[len(p)-40+8*i:], v)
			}
		}
	}
	tests := []struct {
		name  string
		spoil func([]byte, int64)
		at    int    // the row that is asked for; -1: NewRemote refuses
		want  string // "": only Fill sees it
	}{
		{"header", header(1, 1), -1, "offset 8: header has 0x1"},
		{"maximum", header(5, 1<<40), -1, "offset 40: chunk size 1099511627776 is above"},
		{"tail", tail(0, 1), -1, "offset 4000064: tail has 0x1"},
		{"tail's size", tail(3, 1), -1, "offset 4000088: tail has 0x1"},
		{"first block", setEnd(3, 1), -1, "chunk 3 ends at 1, not after"},
		{"last block", setEnd(n-2, end(n-2)+1<<20), -1, "bytes, above the maximum of 262144"},
		{"last row too far", setEnd(n-1, end(n-1)+1<<20), -1, "bytes, above the maximum of 262144"},
		{"negative", setEnd(n-1, 1<<63), -1, "beyond 2^63-1"},
		{"start of the last block", setEnd(6553*15-1, 1<<63+1), -1, "beyond 2^63-1"},
		{"size beyond the rows", func(p []byte, off int64) {
			if off > 64 {
				for i := range (len(p) - 40) / 40 {
					end := binary.LittleEndian.Uint64(p[40*i:])
					binary.LittleEndian.PutUint64(p[40*i:], end+1<<40)
				}
			}
		}, -1, "which cannot be if chunk 6553 begins at"},
		{"not ordered", setEnd(50_000, end(49_998)), 50_003, "chunk 50000 ends at"},
		{"too large", setEnd(50_000, end(50_000)+1<<20), 50_003, "above the maximum"},
		{"block too far back", setEnd(6553*7-1, 5), 6553*7 + 1, "above the maximum"},
		{"block begins elsewhere", setEnd(6553*7-1, end(6553*7-1)+1), 6553*7 + 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := newTable(n, dataSize)
			src.spoil = tt.spoil
			if tt.name == "block begins elsewhere" { // only where a block begins
				src.spoil = func(p []byte, off int64) {
					if off == 64+40*(6553*7-1) {
						tt.spoil(p, off)
					}
				}
			}
			x, err := index.NewRemote(t.Context(), src)
			if tt.at >= 0 {
				if err != nil {
					t.Fatal(err)
				}
				_, err = x.Row(t.Context(), tt.at)
			}
			if tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "index: ") || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if tt.at < 0 {
				return
			}
			if tt.want == "" {
				if _, err = x.Fill(t.Context()); err == nil || !strings.Contains(err.Error(), "another row than was here before") && !strings.Contains(err.Error(), "which cannot be") {
					t.Errorf("Fill: got %v", err)
				}
			}
			src.spoil = nil
			_, err1 := x.Row(t.Context(), 0)
			_, err2 := x.Seek(t.Context(), 0)
			_, err3 := x.Fill(t.Context())
			for _, again := range []error{err1, err2, err3} {
				if again == nil || again != err || !errors.Is(again, index.ErrSpoilt) {
					t.Errorf("later: got %v, want %v", again, err)
				}
			}
			if x.Ready(0, 1) {
				t.Error("ready")
			}
		})
		if tt.want == "" {
			continue
		}
		t.Run(tt.name+", filled", func(t *testing.T) {
			src := newTable(n, dataSize)
			src.spoil = tt.spoil
			x, err := index.NewRemote(t.Context(), src)
			if err == nil {
				_, err = x.Fill(t.Context())
			}
			if err == nil || !strings.HasPrefix(err.Error(), "index: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Lengths that no file has cost nothing.
func TestRemoteSizes(t *testing.T) {
	for _, size := range []int64{-1, 0, 103, 105, math.MaxInt64, math.MaxInt64 - (math.MaxInt64-104)%40} {
		used := allocated(func() {
			if _, err := index.NewRemote(t.Context(), liar(size)); err == nil || !strings.HasPrefix(err.Error(), "index: ") {
				t.Errorf("size %d: got %v", size, err)
			}
		})
		if used > 2<<20 {
			t.Errorf("size %d: %d bytes allocated", size, used)
		}
	}
	for rows, want := range map[int64]string{1 << 30: "unexpected EOF", 1<<30 + 1: "more than can be read", 1 << 57: "more than can be read"} {
		if _, err := index.NewRemote(t.Context(), liar(104+40*rows)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d rows: got %v, want %q in it", rows, err, want)
		}
	}
}

// A liar has nothing of what it says.
type liar int64

func (l liar) Size() int64 { return int64(l) }

func (l liar) ReadAt(_ context.Context, p []byte, off int64) (int, error) { return 0, io.EOF }

// A file that says it is huge costs what arrives of it.
func TestFillAllocatesWhatArrives(t *testing.T) {
	src := newTable(2_000_000, dataSize)
	x := newRemote(t, src)
	src.before = func(_ context.Context, off int64) error {
		if off > 2_000_000 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	used := allocated(func() {
		if _, err := x.Fill(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
	if used > 32<<20 {
		t.Errorf("%d bytes allocated for 2 MB of 80", used)
	}
}

// FuzzRemote changes rows of a table, and compares what a Remote says with what
// Read does.
func FuzzRemote(f *testing.F) {
	f.Add(uint32(0), uint64(0), uint32(7), true)
	f.Add(uint32(10_000), uint64(1), uint32(10_001), false)
	f.Add(uint32(6553-1), uint64(1<<63), uint32(6553), false)
	f.Add(uint32(6553*2), uint64(1<<40), uint32(6553*2), true)
	const n = 6553*2 + 10
	src := newTable(n, dataSize)
	good := make([]byte, src.Size())
	src.read(good, 0)
	f.Fuzz(func(t *testing.T, at uint32, value uint64, look uint32, add bool) {
		file := bytes.Clone(good)
		cell := file[int(at)%(len(file)/8)*8:]
		if add {
			value += binary.LittleEndian.Uint64(cell)
		}
		binary.LittleEndian.PutUint64(cell, value)
		want, wantErr := index.Read(bytes.NewReader(file), int64(len(file)))
		x, err := index.NewRemote(t.Context(), inMemory(file))
		if err != nil {
			if wantErr == nil || !strings.HasPrefix(err.Error(), "index: ") {
				t.Fatalf("NewRemote: %v; Read: %v", err, wantErr)
			}
			return
		}
		off := int64(look) % (x.Size() + 1) * 97 % (x.Size() + 1)
		row, err := x.Seek(t.Context(), off)
		if err == nil && row < x.Len() {
			var c index.Chunk
			if c, err = x.Row(t.Context(), row); err == nil && (c.Start > off || c.End() <= off || c.Size > x.Chunking().Max) {
				t.Fatalf("byte %d is not in %+v", off, c)
			}
		}
		if err != nil && wantErr == nil {
			t.Fatalf("Seek: %v", err)
		}
		got, err := x.Fill(t.Context())
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("Fill: %v; Read: %v", err, wantErr)
		}
		if err == nil && got.Sum() != want.Sum() {
			t.Fatal("Fill has read another index than Read")
		}
	})
}

type inMemory []byte

func (m inMemory) Size() int64 { return int64(len(m)) }

func (m inMemory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}
