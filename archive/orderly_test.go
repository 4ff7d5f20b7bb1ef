package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// hintedBytes are read at offsets and remember what they were told.
type hintedBytes struct {
	*bytes.Reader
	told [][2]int64
}

func (h *hintedBytes) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return h.Reader.ReadAt(p, off)
}

func (h *hintedBytes) Want(off, n int64) { h.told = append(h.told, [2]int64{off, n}) }

func TestOrderly(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16*10) // 20 MiB
	for _, part := range [][2]int64{{0, 10}, {5, 0}, {100, 3 << 20}, {7, int64(len(data)) - 7}} {
		src := &hintedBytes{Reader: bytes.NewReader(data)}
		r := &orderly{ctx: t.Context(), src: src, off: part[0], end: part[0] + part[1], told: part[0]}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data[part[0]:part[0]+part[1]]) {
			t.Errorf("%v: %d bytes, %v", part, len(got), err)
		}
		// Each byte is announced once, in order.
		at := part[0]
		for _, told := range src.told {
			if told[0] != at || told[1] <= 0 || told[1] > window {
				t.Errorf("%v: told of %d bytes at %d, after what ended at %d", part, told[1], told[0], at)
			}
			at = told[0] + told[1]
		}
		if at != part[0]+part[1] {
			t.Errorf("%v: told up to %d", part, at)
		}
	}
	r := &orderly{ctx: t.Context(), src: &hintedBytes{Reader: bytes.NewReader(data[:100])}, end: 200}
	if got, err := io.ReadAll(r); len(got) != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of less than there should be: %d bytes, %v", len(got), err)
	}
}
