package image_test

import (
	"bytes"
	"testing"

	"caravel/image"
)

// TestMakeBase counts what a store is asked for that has a former image.
func TestMakeBase(t *testing.T) {
	s := newShelf()
	data := content()
	m := made(t, s, data)
	base := image.NewBase(m.Index, m.Index)
	if id, missing, err := base.Missing(t.Context(), s, 0); missing || err != nil {
		t.Errorf("%v is missing, %v", id, err)
	}
	next := append(bytes.Clone(data), noise(99, 5000)...)
	had := s.asked.Load()
	again, err := image.Make(t.Context(), bytes.NewReader(next), s, image.MakeOptions{Params: small, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.asked.Load() - had; n != again.Stored || n > 20 {
		t.Errorf("asked for %d chunks, %d are new", n, again.Stored)
	}
	if want := made(t, newShelf(), next); again.Index.Sum() != want.Index.Sum() || again.Digest != want.Digest {
		t.Error("another image")
	}
	clear(s.plain)
	if _, missing, err := base.Missing(t.Context(), s, 0); !missing || err != nil {
		t.Errorf("nothing is missing of an empty store, %v", err)
	}
}
