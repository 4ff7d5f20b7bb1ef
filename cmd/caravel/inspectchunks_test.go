package main

import (
	"bytes"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/index"
)

func FuzzParseInspected(f *testing.F) {
	f.Add([]byte(`[{"id":"` + strings.Repeat("ab", 32) + `","uncompressed_size":5,"compressed_size":9}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		known, err := parseInspected(bytes.NewReader(text))
		if err != nil {
			return
		}
		for id, c := range known {
			if c.ID != id || c.Size < 0 || c.Packed != nil && *c.Packed < 0 {
				t.Errorf("%s is %+v", id, c)
			}
		}
	})
}

// TestInspectedAgain reads what was printed.
func TestInspectedAgain(t *testing.T) {
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	packed := []int64{7, -1}
	for _, n := range []int{20_000, 30_000, 20_000} {
		if err := b.Append(chunker.ID{byte(n >> 8)}, n); err != nil {
			t.Fatal(err)
		}
	}
	u := image.UniqueOf(b.Index())
	var text bytes.Buffer
	if err := printInspected(&text, u, packed); err != nil {
		t.Fatal(err)
	}
	known, err := parseInspected(bytes.NewReader(text.Bytes()))
	if err != nil || len(known) != 2 || strings.Count(text.String(), `"id"`) != 3 {
		t.Fatalf("%d chunks, %v\n%s", len(known), err, text.String())
	}
	for place, want := range packed {
		c := u.Chunk(place)
		got := known[c.ID]
		if got.Size != int64(c.Size) || (got.Packed == nil) != (want < 0) || want >= 0 && *got.Packed != want {
			t.Errorf("chunk %s is %+v, want %d", c.ID, got, want)
		}
	}
	text.Reset()
	empty := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams()).Index()
	if err := printInspected(&text, image.UniqueOf(empty), nil); err != nil || text.String() != "[]\n" {
		t.Errorf("printed %q, %v", text.String(), err)
	}
}
