package image_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"caravel/image"
)

func TestCopySum(t *testing.T) {
	data := bytes.Repeat([]byte("some text "), 300_000)
	sum := sha512.New512_256()
	var out bytes.Buffer
	n, err := image.CopySum(&out, iotest.HalfReader(bytes.NewReader(data)), sum)
	if err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if want := sha512.Sum512_256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("%x, want %x", sum.Sum(nil), want)
	}
	broken := errors.New("broken")
	if _, err := image.CopySum(io.Discard, iotest.ErrReader(broken), sum); err != broken {
		t.Errorf("got %v", err)
	}
	if _, err := image.CopySum(full{}, bytes.NewReader(data), sum); err == nil {
		t.Error("a full disk went unnoticed")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
