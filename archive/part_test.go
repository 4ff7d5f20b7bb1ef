package archive

import (
	"bytes"
	"io"
	"testing"
)

func TestPart(t *testing.T) {
	data := []byte("before the file, the file, and behind it")
	p := part{&hintedBytes{Reader: bytes.NewReader(data)}, 17, 8}
	for _, tt := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 8, "the file", nil},
		{0, 3, "the", nil},
		{4, 4, "file", nil},
		{4, 5, "file", io.EOF},
		{8, 1, "", io.EOF},
		{100, 1, "", io.EOF},
		{-1, 1, "", io.EOF},
	} {
		b := make([]byte, tt.n)
		if n, err := p.ReadAt(t.Context(), b, tt.off); string(b[:n]) != tt.want || err != tt.err {
			t.Errorf("%d bytes at %d: %q, %v", tt.n, tt.off, b[:n], err)
		}
	}
}

// closing bytes remember that they were closed.
type closing struct {
	hintedBytes
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return io.ErrClosedPipe
}

func TestPartClose(t *testing.T) {
	c := new(closing)
	if err := (part{c, 0, 0}).Close(); err != io.ErrClosedPipe || !c.closed {
		t.Errorf("closed %v, %v", c.closed, err)
	}
	if err := (part{new(hintedBytes), 0, 0}).Close(); err != nil {
		t.Error(err)
	}
}
