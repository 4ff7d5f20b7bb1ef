package chunker

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestMark compares the marks with the rule itself, for all kinds of discriminators and bytes.
func TestMark(t *testing.T) {
	data := noise(70_000)
	copy(data[20_000:], make([]byte, 21_000))
	copy(data[50_000:], bytes.Repeat([]byte{7}, 17_000))
	copy(data[45_000:], bytes.Repeat([]byte{1, 0}, 1_000))
	for _, p := range []Params{
		{Min: 1, Avg: 1, Max: 100}, {Min: 1, Avg: 2, Max: 100}, {Min: 1, Avg: 3, Max: 100}, {Min: 48, Avg: 64, Max: 256},
		{Min: 100, Avg: 200, Max: 1000}, {Min: 256, Avg: 1024, Max: 4096}, {Min: 1, Avg: 5000, Max: 1 << 20}, DefaultParams(),
	} {
		c, err := NewCutter(p)
		if err != nil {
			t.Fatal(err)
		}
		d := uint64(p.discriminator())
		for _, n := range []int{0, 1, 47, 48, 49, 63, 64, 127, 128, 129, 1000, passSize, passSize + 1, passSize + 47, 2*passSize + 17, len(data)} {
			for _, from := range []int{0, 1, 19_990, 49_937} {
				b := data[from:min(from+n, len(data))]
				m := NewMarks(len(b))
				for i := range m {
					m[i] = rand.Uint64() // of the last use
				}
				c.Mark(m, b)
				for i := range 64 * len(m) {
					want := i >= window-1 && i < len(b) && uint64(hashOf(b[i+1-window:]))%d == d-1
					if got := m[i/64]>>(i%64)&1 == 1; got != want {
						t.Fatalf("%v, %d bytes from %d: byte %d: %v, want %v", p, len(b), from, i, got, want)
					}
				}
			}
		}
	}
}
