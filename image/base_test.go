package image_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/image"
)

// TestMakeBase makes an image on top of a former one, and then misses a chunk of that.
func TestMakeBase(t *testing.T) {
	s := newShelf()
	data := content()
	m := made(t, s, data)
	base := &image.Roots{}
	base.Add(m.Index)
	base.Add(m.Index)
	if id, missing, err := base.Missing(t.Context(), s, 0); missing || err != nil {
		t.Errorf("%v is missing, %v", id, err)
	}
	next := append(bytes.Clone(data), noise(99, 5000)...)
	had := s.asked.Load()
	again, err := image.Make(t.Context(), bytes.NewReader(next), s, image.MakeOptions{Params: small, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.asked.Load() - had; n != int64(len(image.Distinct(again.Index, map[chunker.ID]bool{}))) || again.Stored > 20 {
		t.Errorf("asked for %d chunks, %d are new", n, again.Stored)
	}
	if want := made(t, newShelf(), next); again.Index.Sum() != want.Index.Sum() || again.Digest != want.Digest {
		t.Error("another image")
	}
	var ids []chunker.ID
	for _, c := range image.Distinct(m.Index, map[chunker.ID]bool{}) {
		ids = append(ids, c.ID)
	}
	slices.SortFunc(ids, func(a, b chunker.ID) int { return bytes.Compare(a[:], b[:]) })
	gone := ids[1] // which is no sample
	delete(s.plain, gone)
	if _, missing, err := base.Missing(t.Context(), s, 0); missing || err != nil {
		t.Errorf("the sample tells that a chunk is missing, %v", err)
	}
	s.synced.Store(0)
	_, err = image.Make(t.Context(), bytes.NewReader(next), s, image.MakeOptions{Params: small, Base: base})
	if err == nil || !strings.Contains(err.Error(), gone.String()) || s.synced.Load() > 0 {
		t.Errorf("a chunk is missing, got %v", err)
	}
	clear(s.plain)
	if _, missing, err := base.Missing(t.Context(), s, 0); !missing || err != nil {
		t.Errorf("nothing is missing of an empty store, %v", err)
	}
}
