package chunker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"
)

// A failing read must not leave a short last chunk behind it.
func TestChunksOfAFailingReader(t *testing.T) {
	broken := errors.New("the disk is gone")
	p := Params{Min: 64, Avg: 256, Max: 1024}
	data := mixture(rand.New(rand.NewPCG(5, 6)), 2<<20)
	whole := reference(data[:40000], p)
	for n := range 3000 {
		n *= 13
		r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
		if n%2 == 0 {
			r = iotest.DataErrReader(r)
		}
		var err error
		i := 0
		for chunk, e := range Chunks(r, p) {
			if err != nil {
				t.Fatalf("after %d bytes: a step follows the error", n)
			}
			if err = e; err != nil {
				continue
			}
			if len(chunk) != whole[i] {
				t.Fatalf("after %d bytes: chunk %d has %d bytes, want %d", n, i, len(chunk), whole[i])
			}
			i++
		}
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: got %v, want %v", n, err, broken)
		}
	}
}

func TestChunksRefuses(t *testing.T) {
	tests := []struct {
		name string
		r    io.Reader
		p    Params
		want string
	}{
		{"sizes of nothing", bytes.NewReader(nil), Params{}, "chunker: sizes 0:0:0: the minimum is below 1"},
		{"sizes below the window", bytes.NewReader(nil), Params{10, 20, 40}, "chunker: sizes 10:20:40: a maximum below 48 bytes works only for chunks of a fixed size"},
		{"a reader that gives nothing", pieces{r: bytes.NewReader([]byte("x")), rng: rand.New(rand.NewPCG(1, 1))}, DefaultParams(), io.ErrNoProgress.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps := 0
			for chunk, err := range Chunks(tt.r, tt.p) {
				steps++
				if chunk != nil || err == nil || err.Error() != tt.want {
					t.Errorf("got %q, %v; want %s", chunk, err, tt.want)
				}
			}
			if steps != 1 {
				t.Errorf("%d steps, want 1", steps)
			}
		})
	}
}

func TestChunksStops(t *testing.T) {
	data := make([]byte, 10<<20)
	r := bytes.NewReader(data)
	for chunk, err := range Chunks(r, DefaultParams()) {
		if err != nil || len(chunk) != 256<<10 {
			t.Fatalf("got %d bytes, %v", len(chunk), err)
		}
		break
	}
	if read := len(data) - r.Len(); read > maxRead {
		t.Errorf("%d bytes were read for one chunk", read)
	}
}

// A caller may overwrite and extend what it is given.
func TestChunksAreTheCallers(t *testing.T) {
	p := Params{Min: 48, Avg: 200, Max: 1000}
	data := mixture(rand.New(rand.NewPCG(9, 10)), 100000)
	var got []int
	for chunk, err := range Chunks(bytes.NewReader(data), p) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, len(chunk))
		clear(append(chunk, 1, 2, 3))
	}
	if want := reference(data, p); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// asked notes the longest buffer that a reader is offered.
type asked struct {
	r    io.Reader
	most int
}

func (a *asked) Read(b []byte) (int, error) {
	a.most = max(a.most, len(b))
	return a.r.Read(b)
}

func TestBufferIsBounded(t *testing.T) {
	tests := []struct {
		size int64
		p    Params
		most int
	}{
		{0, DefaultParams(), minRead},
		{1000, Around(MaxSize), minRead},
		{100 << 10, Around(MaxSize), 2 * minRead},
		{10 << 20, DefaultParams(), maxRead},
		{10 << 20, Params{64, 256, 1024}, maxRead},
		{10 << 20, Params{1 << 20, 1 << 20, 1 << 20}, 2 << 20},
		{10 << 20, Params{100, 1 << 20, 3 << 20}, 6 << 20},
	}
	for _, tt := range tests {
		a := &asked{r: io.LimitReader(rand.NewChaCha8([32]byte{}), tt.size)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, err := range Chunks(a, tt.p) {
			if err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if a.most > tt.most {
			t.Errorf("%d bytes by %v: a read of %d bytes, want at most %d", tt.size, tt.p, a.most, tt.most)
		}
		// The buffers that were outgrown add up to less than twice the last.
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(3*tt.most+64<<10) {
			t.Errorf("%d bytes by %v: %d bytes allocated", tt.size, tt.p, got)
		}
	}
}

// remainder is find as the format describes it.
func remainder(b []byte, d uint32) int {
	var h uint32
	for _, x := range b[:window] {
		h = bits.RotateLeft32(h, 1) ^ table[x]
	}
	for n := window; ; n++ {
		if h%d == d-1 || n == len(b) {
			return n
		}
		h = bits.RotateLeft32(h, 1) ^ bits.RotateLeft32(table[b[n-window]], window) ^ table[b[n]]
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

func BenchmarkNext(b *testing.B) {
	const size = 4 << 20
	p := Params{Min: window, Avg: 64 << 10, Max: size} // nothing is skipped
	c, err := NewCutter(p)
	if err != nil {
		b.Fatal(err)
	}
	d := uint32(p.discriminator())
	for _, bb := range []struct {
		name string
		data []byte
		next func([]byte) int
		cuts int
	}{
		{"random", noise(size), c.Next, 81},
		{"random, plain remainder", noise(size), func(b []byte) int { return remainder(b, d) }, 81},
		{"zeros", make([]byte, size), c.Next, 1},
		{"two values", bytes.Repeat([]byte{0, 1}, size/2), c.Next, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				cuts := 0
				for rest := bb.data; len(rest) > window; cuts++ {
					rest = rest[bb.next(rest):]
				}
				if cuts != bb.cuts {
					b.Fatalf("%d cuts, want %d", cuts, bb.cuts)
				}
			}
		})
	}
}

func BenchmarkChunks(b *testing.B) {
	const size = 16 << 20
	for _, bb := range []struct {
		name string
		data []byte
		p    Params
	}{
		{"random", noise(size), DefaultParams()},
		{"zeros", make([]byte, size), DefaultParams()},
		{"random, fixed size", noise(size), Params{64 << 10, 64 << 10, 64 << 10}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for chunk, err := range Chunks(bytes.NewReader(bb.data), bb.p) {
					if err != nil {
						b.Fatal(err)
					}
					n += len(chunk)
				}
				if n != size {
					b.Fatalf("%d bytes came out", n)
				}
			}
		})
	}
}
