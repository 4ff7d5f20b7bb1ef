package listing_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"caravel/chunker"
	"caravel/listing"
)

func TestSums(t *testing.T) {
	for _, d := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		type line struct {
			n  int
			id chunker.ID
		}
		var got, want []line
		s := listing.NewSums(d, func(n int, id chunker.ID) error {
			got = append(got, line{n, id})
			return nil
		})
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range 5000 {
			switch size := 1 << rng.IntN(18); {
			case n%3 == 0:
				want = append(want, line{n, chunker.ID{}})
				if err := s.Add(n); err != nil {
					t.Fatal(err)
				}
				continue
			case n%1000 == 1:
				size = 2 << 20
				fallthrough
			default:
				content := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, size/2)
				want = append(want, line{n, d.Sum(content)})
				if err := s.File(n, bytes.NewReader(content), int64(len(content))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if !slices.Equal(got, want) {
			t.Errorf("%v: %d entries are not the %d that came, in their order", d, len(got), len(want))
		}
	}
}

func TestSumsErrors(t *testing.T) {
	full := errors.New("full")
	s := listing.NewSums(chunker.SHA256, func(int, chunker.ID) error { return full })
	defer s.Close()
	if err := s.File(1, bytes.NewReader([]byte("abc")), 4); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v from a file that is too short", err)
	}
	if err := s.File(2, bytes.NewReader([]byte("abc")), 3); err != nil && !errors.Is(err, full) {
		t.Error(err)
	}
	if err := errors.Join(s.Add(3), s.Flush()); !errors.Is(err, full) {
		t.Errorf("got %v, want what the output says", err)
	}
}
