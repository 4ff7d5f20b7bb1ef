package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// reference cuts b by the words of the format's description, section 1, and
// returns the lengths: the hash anew for each byte, a plain remainder.
func reference(b []byte, p Params) (lengths []int) {
	d := uint32(p.discriminator())
	for len(b) > 0 {
		size := 1
		for ; size < len(b); size++ {
			if p.Min == p.Max {
				if size == p.Avg {
					break
				}
				continue
			}
			if size < max(p.Min, 48) {
				continue
			}
			var h uint32
			for i, x := range b[size-48 : size] {
				h ^= bits.RotateLeft32(table[x], 47-i)
			}
			if size >= p.Max || h%d == d-1 {
				break
			}
		}
		lengths = append(lengths, size)
		b = b[size:]
	}
	return lengths
}

// cut runs Chunks over r and checks that the chunks put together are data.
func cut(t *testing.T, r io.Reader, data []byte, p Params) (lengths []int) {
	t.Helper()
	for chunk, err := range Chunks(r, p) {
		if err != nil {
			t.Fatal(err)
		}
		if len(chunk) > len(data) || !bytes.Equal(chunk, data[:len(chunk)]) {
			t.Fatalf("chunk %d is not what the stream has there", len(lengths))
		}
		data = data[len(chunk):]
		lengths = append(lengths, len(chunk))
	}
	if len(data) != 0 {
		t.Fatalf("the last %d bytes are missing", len(data))
	}
	return lengths
}

// pieces returns up to a random number of bytes at a time, sometimes none.
type pieces struct {
	r   io.Reader
	rng *rand.Rand
	max int
}

func (p pieces) Read(b []byte) (int, error) {
	return p.r.Read(b[:min(len(b), p.rng.IntN(p.max+1))])
}

// readers are the ways in which the same bytes can arrive.
func readers(b []byte, rng *rand.Rand) map[string]io.Reader {
	return map[string]io.Reader{
		"whole":      bytes.NewReader(b),
		"one byte":   iotest.OneByteReader(bytes.NewReader(b)),
		"halves":     iotest.HalfReader(bytes.NewReader(b)),
		"EOF at end": iotest.DataErrReader(bytes.NewReader(b)),
		"pieces":     pieces{bytes.NewReader(b), rng, 1 + rng.IntN(100000)},
	}
}

// mixture is n bytes of random parts: noise, text of few values, one value.
func mixture(rng *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		values := []int{1, 2, 256, 256}[rng.IntN(4)]
		first := rng.IntN(256)
		for range rng.IntN(n) {
			b = append(b, byte(first+rng.IntN(values)))
		}
	}
	return b[:n]
}

func TestChunksFollowTheDescription(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fixed := []Params{
		{1, 1, 1}, {7, 7, 7}, {48, 48, 48}, {4096, 4096, 4096}, // fixed size
		{1, 1, 48}, {1, 12, 48}, {47, 48, 49}, {48, 48, 49}, {1, 200, 200}, // around the window
		{64, 64, 4096}, {128, 130, 5000}, {1, 2, 300}, {96, 100, 97 * 50}, // d: powers of two, even, 1, odd
		{16384, 65536, 262144},
	}
	for i := range 150 {
		p := Params{Min: 1 + rng.IntN(1<<rng.IntN(12))}
		p.Avg = p.Min + rng.IntN(1<<rng.IntN(12))
		p.Max = max(p.Avg+rng.IntN(1<<rng.IntN(13)), window)
		n := rng.IntN(40000)
		if i < len(fixed) {
			p, n = fixed[i], 20000
			if p.Avg > 10000 {
				n = 600000
			}
		}
		if err := p.Cuttable(); err != nil {
			t.Fatal(err)
		}
		data := mixture(rng, n)
		want := fmt.Sprint(reference(data, p))
		for name, r := range readers(data, rng) {
			if got := fmt.Sprint(cut(t, r, data, p)); got != want {
				t.Errorf("%v, %d bytes, %s: got %.200s, want %.200s", p, n, name, got, want)
			}
		}
	}
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("text"), uint16(1), uint16(1), uint16(100), uint16(3))
	f.Add([]byte{0}, uint16(63), uint16(192), uint16(768), uint16(5000))
	f.Add(bytes.Repeat([]byte{0xff, 0}, 99), uint16(0), uint16(0), uint16(0), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, least, avg, most, repeat uint16) {
		p := Params{Min: 1 + int(least)}
		p.Avg = p.Min + int(avg)
		p.Max = p.Avg + int(most)
		if p.Cuttable() != nil {
			t.Skip("no sizes to cut by")
		}
		data = bytes.Repeat(data, 1+min(int(repeat), 1<<16/(len(data)+1)))
		want := fmt.Sprint(reference(data, p))
		for name, r := range readers(data, rand.New(rand.NewPCG(uint64(len(data)), 1))) {
			if got := fmt.Sprint(cut(t, r, data, p)); got != want {
				t.Errorf("%v, %d bytes, %s: got %.200s, want %.200s", p, len(data), name, got, want)
			}
		}
	})
}

func TestTable(t *testing.T) {
	var b []byte
	for _, v := range table {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	const want = "5b52080d38287da9d2e278466e3e0db7ec98e5e8b226f50612a56fa012b1f660"
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDiscriminator(t *testing.T) {
	for avg, want := range map[int]int{
		65536: 49535, 16384: 12318, 4096: 3075, 256: 192, 192: 144, 128: 96, 65537: 49536,
		1 << 20: 886711, 4 << 20: 5721670,
		1: 1, 12: 9,
	} {
		if got := Around(avg).discriminator(); got != want {
			t.Errorf("average %d: got %d, want %d", avg, got, want)
		}
	}
	// The quotient passes the maximum, then turns negative.
	for _, avg := range []int{8388608, 9000000, 9324556, 9324557, 9324558, 20 << 20, 64 << 20, MaxSize} {
		if p := Around(avg); p.discriminator() != p.Max {
			t.Errorf("%v: got %d, want the maximum", p, p.discriminator())
		}
	}
	if got := (Params{9000, 10000, 40000}).discriminator(); got != 9000 {
		t.Errorf("a quotient below the minimum: got %d, want 9000", got)
	}
}

// TestHit compares the multiplication with the division that it stands for.
func TestHit(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var ds []uint32
	for d := uint32(1); d < 300; d++ {
		ds = append(ds, d)
	}
	for d := uint32(512); d <= MaxSize; d *= 2 {
		ds = append(ds, d-1, d, min(d+1, MaxSize), d/2+rng.Uint32N(d/2))
	}
	for _, d := range ds {
		m := ^uint64(0)/uint64(d) + 1
		hs := []uint32{0, 1, d - 1, d, math.MaxUint32, math.MaxUint32 - 1, math.MaxUint32 - d, -d, -d - 1}
		for range 1000 {
			multiple := rng.Uint32() / d * d
			hs = append(hs, multiple-2, multiple-1, multiple, rng.Uint32())
		}
		for _, h := range hs {
			if got, want := hit(h, m), h%d == d-1; got != want {
				t.Fatalf("h = %d, d = %d: got %v, want %v", h, d, got, want)
			}
		}
	}
}
