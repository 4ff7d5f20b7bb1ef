package chunker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"

	. "caravel/chunker"
)

// whole are the lengths of the chunks of a stream, as Chunks cuts it.
func whole(t *testing.T, data []byte, p Params) (sizes []int) {
	t.Helper()
	for chunk, err := range Chunks(bytes.NewReader(data), p) {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(chunk))
	}
	return sizes
}

// checkSplit checks that Split cuts r, which gives data, as Chunks would.
func checkSplit(t *testing.T, r io.Reader, data []byte, p Params) {
	t.Helper()
	want, at := whole(t, data, p), 0
	var held []*Piece // some for a while, and given back in another order
	for piece, err := range Split(t.Context(), r, p, SplitOptions{Segments: 4}) {
		if err != nil {
			t.Fatal(err)
		}
		for range piece.Times {
			if len(want) == 0 || len(piece.Plain) != want[0] {
				t.Fatalf("%v: a chunk of %d bytes at %d, want %v", p, len(piece.Plain), at, want)
			}
			if !bytes.Equal(piece.Plain, data[at:at+want[0]]) {
				t.Fatalf("%v: other bytes at %d", p, at)
			}
			at, want = at+want[0], want[1:]
		}
		if held = append(held, piece); len(held) == 2 {
			held[1].Release()
			held[0].Release()
			held = nil
		}
	}
	if len(want) > 0 {
		t.Fatalf("%v: %d chunks are missing", p, len(want))
	}
}

// A holed reader gives data, and knows of the zeros in some of it.
type holed struct {
	data []byte
	at   int
	hole [][2]int // from, to
}

func (h *holed) Hole() (int64, error) {
	if len(h.hole) == 0 || h.at < h.hole[0][0] {
		return 0, nil
	}
	n := h.hole[0][1] - h.at
	h.at, h.hole = h.hole[0][1], h.hole[1:]
	return int64(n), nil
}

func (h *holed) Read(p []byte) (int, error) {
	end := len(h.data)
	if len(h.hole) > 0 {
		end = h.hole[0][0]
	}
	n := copy(p, h.data[h.at:end])
	if h.at += n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// holedData are random bytes with holes in them.
func holedData(rnd *rand.Rand, size int) *holed {
	h := &holed{data: make([]byte, size)}
	for i := range h.data {
		h.data[i] = byte(rnd.Uint32())
	}
	for at := 0; ; {
		at += rnd.IntN(size/3 + 1)
		end := at + 1 + rnd.IntN(1<<rnd.IntN(20))
		if end >= size {
			return h
		}
		clear(h.data[at:end])
		h.hole = append(h.hole, [2]int{at, end})
		at = end + 1
	}
}

// randomParams are sizes of any kind.
func randomParams(rnd *rand.Rand) Params {
	lo := 1 + rnd.IntN(1<<rnd.IntN(18))
	avg := lo + rnd.IntN(1<<rnd.IntN(18))
	p := Params{Min: lo, Avg: avg, Max: max(avg+rnd.IntN(1<<rnd.IntN(19)), 48)}
	if rnd.IntN(10) == 0 {
		p = Params{Min: avg, Avg: avg, Max: avg}
	}
	return p
}

func FuzzSplit(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed, uint32(seed*seed*20_000))
	}
	f.Fuzz(func(t *testing.T, seed uint64, size uint32) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		h := holedData(rnd, int(size%(3<<20)))
		p := randomParams(rnd)
		checkSplit(t, bytes.NewReader(h.data), h.data, p)
		checkSplit(t, h, h.data, p)
	})
}

// TestSplitZeros checks the holes where zeros themselves mark cuts, and where they do not.
func TestSplitZeros(t *testing.T) {
	for _, p := range []Params{DefaultParams(), {Min: 1, Avg: 1, Max: 48}, {Min: 1, Avg: 1, Max: 1000}, {Min: 64, Avg: 64, Max: 64}} {
		data := make([]byte, 600_000)
		data[300_000] = 1
		for _, hole := range [][][2]int{
			{{0, 300_000}, {300_001, 600_000}}, {{1, 47}, {100, 147}, {200, 248}, {300, 349}, {300_002, 300_003}}, {{0, 1}, {599_999, 600_000}},
		} {
			checkSplit(t, &holed{data: data, hole: hole}, data, p)
		}
	}
}

func TestSplitFails(t *testing.T) {
	broken := errors.New("broken")
	n := 0
	for piece, err := range Split(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(broken)), DefaultParams(), SplitOptions{}) {
		if err != nil {
			if !errors.Is(err, broken) || n == 0 || n > 3<<20 {
				t.Errorf("%v after %d bytes", err, n)
			}
			return
		}
		n += len(piece.Plain)
		piece.Release()
	}
	t.Error("no error")
}

// TestSplitEnds checks that nothing runs on when the reader leaves, or its context ends.
func TestSplitEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	for range Split(t.Context(), bytes.NewReader(make([]byte, 9<<20)), DefaultParams(), SplitOptions{}) {
		break
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	gone := errors.New("gone")
	var last error
	for piece, err := range Split(ctx, bytes.NewReader(make([]byte, 90<<20)), DefaultParams(), SplitOptions{}) {
		if last = err; err == nil {
			piece.Release()
			cancel(gone)
		}
	}
	if !errors.Is(last, gone) {
		t.Errorf("it ended with %v", last)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, before %d", after, before)
	}
	for _, err := range Split(t.Context(), bytes.NewReader(nil), Params{}, SplitOptions{}) {
		if err == nil {
			t.Error("no sizes were taken")
		}
	}
}

func BenchmarkSplit(b *testing.B) {
	const size = 64 << 20
	data := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(data)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for piece, err := range Split(b.Context(), bytes.NewReader(data), DefaultParams(), SplitOptions{}) {
			if err != nil {
				b.Fatal(err)
			}
			n += len(piece.Plain)
			piece.Release()
		}
		if n != size {
			b.Fatalf("%d bytes came out", n)
		}
	}
}
