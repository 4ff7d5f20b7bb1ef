package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/image"
)

// The chunks in which a byte is another one are found, and no others.
func TestCompare(t *testing.T) {
	data := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{7}).Read(data)
	clear(data[50_000:150_000])
	for _, d := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		made, err := image.Make(t.Context(), bytes.NewReader(data), nil, image.MakeOptions{Params: small, Digest: d})
		if err != nil {
			t.Fatal(err)
		}
		x := made.Index
		compare := func(content []byte) (image.Compared, error) {
			return image.Compare(t.Context(), bytes.NewReader(content), "the file", x, image.CompareOptions{Workers: 3})
		}
		if got, err := compare(append(bytes.Clone(data), 1, 2, 3)); err != nil || got.Same != int64(x.Len()) || got.Other != 0 {
			t.Errorf("%v: the same: %+v, error %v", d, got, err)
		}
		for _, at := range []int{0, 49_999, 100_000, 149_999, len(data) - 1} {
			other := bytes.Clone(data)
			other[at]++
			got, err := compare(other)
			if err != nil || got.Other != 1 || got.Same != int64(x.Len()-1) || got.First.Start > int64(at) || got.First.End() <= int64(at) {
				t.Errorf("%v: at %d: %+v, error %v", d, at, got, err)
			}
		}
		if got, err := compare(make([]byte, len(data))); err != nil || got.First.Start != 0 || got.Other < int64(x.Len())/2 {
			t.Errorf("%v: zeros: %+v, error %v", d, got, err)
		}
		if _, err := compare(data[:len(data)-1]); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "the file: ends at 299999") {
			t.Errorf("%v: short: %v", d, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := image.Compare(ctx, bytes.NewReader(data), "the file", x, image.CompareOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: cancelled: %v", d, err)
		}
	}
}
