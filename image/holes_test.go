package image_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"caravel/chunker"
	"caravel/image"
)

// sparseFile writes pieces of bytes with holes between them, and returns what is in it.
func sparseFile(t *testing.T, rnd *rand.Rand) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content = make([]byte, rnd.IntN(4<<20))
	for at := rnd.IntN(1 << 20); at < len(content); {
		b := noise(rnd.Uint64(), min(1+rnd.IntN(200_000), len(content)-at))
		if _, err := f.WriteAt(b, int64(at)); err != nil {
			t.Fatal(err)
		}
		copy(content[at:], b)
		at += len(b) + rnd.IntN(1<<20)
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// TestMakeSparse compares the image of a file with holes with that of a stream, whole and
// from somewhere in it.
func TestMakeSparse(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		path, content := sparseFile(t, rnd)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		from := int64(0)
		if len(content) > 0 && seed%2 == 0 {
			from = rnd.Int64N(int64(len(content)))
		}
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range []chunker.Params{small, chunker.DefaultParams()} {
			if _, err := f.Seek(from, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			src, err := image.NewSource(f, image.SourceOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := image.Make(t.Context(), src, newShelf(), image.MakeOptions{Params: p})
			if err != nil {
				t.Fatal(err)
			}
			want, err := image.Make(t.Context(), bytes.NewReader(content[from:]), newShelf(), image.MakeOptions{Params: p})
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != want.Digest || got.Index.Sum() != want.Index.Sum() || got.Reused != want.Reused || got.Stored != want.Stored {
				t.Errorf("seed %d, %v: another image: %d chunks, want %d", seed, p, got.Index.Len(), want.Index.Len())
			}
		}
	}
}

// TestMakeHoles makes an image of far more zeros than could be read.
func TestMakeHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	const size = 64 << 30
	if err := os.Truncate(path, size); err != nil {
		t.Skip(err)
	}
	src, err := image.OpenSource(path, image.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if n, err := src.Hole(); n != size || err != nil {
		t.Skipf("holes are not known here: %d, %v", n, err)
	}
	if src, err = image.OpenSource(path, image.SourceOptions{}); err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	made, err := image.Make(t.Context(), src, newShelf(), image.MakeOptions{NoDigest: true})
	if err != nil {
		t.Fatal(err)
	}
	if made.Index.Size() != size || made.Index.Len() != size>>18 || made.Stored != 1 || made.Digest != (chunker.ID{}) {
		t.Errorf("%d chunks of %d bytes, %d stored", made.Index.Len(), made.Index.Size(), made.Stored)
	}
}
