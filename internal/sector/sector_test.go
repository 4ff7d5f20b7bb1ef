package sector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"caravel/internal/sector"
)

type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func ExamplePad() {
	r, size := sector.Pad(memory("caravel"), 7, 512)
	b := make([]byte, 9)
	n, err := r.ReadAt(context.Background(), b, 0)
	fmt.Printf("%d %q %d %v\n", size, b, n, err)
	// Output: 512 "caravel\x00\x00" 9 <nil>
}

func TestPad(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, 1000, 1024} {
		data := bytes.Repeat([]byte{7}, size)
		r, end := sector.Pad(memory(data), int64(size), 512)
		if end%512 != 0 || end < int64(size) || end >= int64(size)+512 {
			t.Fatalf("size %d: padded to %d", size, end)
		}
		whole := make([]byte, end)
		copy(whole, data)
		reference := bytes.NewReader(whole)
		for off := int64(0); off < end+3; off += 37 {
			for _, n := range []int{1, 100, 512, 600} {
				got, want := bytes.Repeat([]byte{9}, n), bytes.Repeat([]byte{9}, n)
				gn, gerr := r.ReadAt(t.Context(), got, off)
				wn, werr := reference.ReadAt(want, off)
				if gn != wn || !errors.Is(gerr, werr) || !bytes.Equal(got[:gn], want[:wn]) {
					t.Fatalf("size %d, at %d+%d: %d %v, want %d %v", size, off, n, gn, gerr, wn, werr)
				}
			}
		}
	}
}

type failing struct{}

var errBad = errors.New("bad")

func (failing) ReadAt(_ context.Context, p []byte, _ int64) (int, error) {
	return len(p) / 2, errBad
}

func TestPadPassesErrors(t *testing.T) {
	r, _ := sector.Pad(failing{}, 100, 512)
	if n, err := r.ReadAt(t.Context(), make([]byte, 200), 0); n != 50 || err != errBad {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.ReadAt(t.Context(), make([]byte, 50), 100); n != 50 || err != nil {
		t.Errorf("in the tail: %d, %v", n, err)
	}
	if n, err := r.ReadAt(t.Context(), make([]byte, 50), 512); n != 0 || err != io.EOF {
		t.Errorf("beyond it: %d, %v", n, err)
	}
}
