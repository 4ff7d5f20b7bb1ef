package open

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestReadAll(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 30_000)
	for _, n := range []int{0, 1, 4095, 4096, 4097, 32768, 300_000} {
		for _, size := range []int64{-1, 0, int64(n), int64(n) - 1, 1 << 62} { // some are not true
			for _, r := range []io.Reader{bytes.NewReader(content[:n]), iotest.HalfReader(bytes.NewReader(content[:n])), iotest.DataErrReader(bytes.NewReader(content[:n]))} {
				got, err := readAll(r, size)
				if err != nil || !bytes.Equal(got, content[:n]) {
					t.Errorf("%d bytes, %d said: got %d, error %v", n, size, len(got), err)
				}
				if cap(got) > 8*n+4096 {
					t.Errorf("%d bytes, %d said: room for %d", n, size, cap(got))
				}
			}
		}
	}
	broken := errors.New("broken")
	if _, err := readAll(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), -1); err != broken {
		t.Errorf("got %v", err)
	}
}
