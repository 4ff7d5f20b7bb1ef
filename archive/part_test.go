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
