package layers_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"caravel/catar"
	"caravel/layers"
	"caravel/tarball"
)

// FuzzAdd feeds streams of strangers: nothing panics, and what comes of them is an
// archive that the decoder takes, or an error.
func FuzzAdd(f *testing.F) {
	f.Add(stream(f, "a/:5", "a/x=1", "b=2", "c>b", "p|", "h@b", "i@j", "j@i", "l>a", "l/y=3"), false)
	f.Add(stream(f, ".wh.a=", "d/.wh..wh..opq=", "../x=1", "/y=2", "a@b", "b@c", "c=3"), true)
	f.Add(stream(f, "a>b", "b>a", "a/x=1", "x/../y=1", ".caexclude=*"), false)
	f.Fuzz(func(t *testing.T, in []byte, layered bool) {
		// The holes of a sparse file cost nothing but the time to go over them.
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		tree, err := layers.New(layers.Options{Layered: layered})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		for _, r := range []io.Reader{bytes.NewReader(in), io.MultiReader(bytes.NewReader(in))} {
			if tree.Add(ctx, tarball.NewReader(r, tarball.ReaderOptions{})) != nil {
				return
			}
		}
		s, err := tree.Stream(ctx, flags)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		whole := &watching{r: s}
		d := catar.NewDecoder(whole, catar.DecoderOptions{})
		for err == nil {
			_, err = d.Next()
		}
		if err != io.EOF && whole.err == nil {
			t.Fatalf("the archive is none: %v", err)
		}
	})
}

// A watching reader remembers what a stream ended with.
type watching struct {
	r   io.Reader
	err error // nil: io.EOF, or not yet
}

func (w *watching) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}
