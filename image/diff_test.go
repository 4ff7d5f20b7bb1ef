package image_test

import (
	"slices"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/index"
)

func TestChanges(t *testing.T) {
	tests := []struct {
		name string
		a, b []byte // chunks of 10 bytes and as many more
		want []image.Change
	}{
		{"nothing", nil, nil, nil},
		{"same", []byte{1, 2, 3}, []byte{1, 2, 3}, nil},
		{"the middle", []byte{1, 2, 3}, []byte{1, 2, 2}, []image.Change{{23, 12, true}}},
		{"new in the middle", []byte{1, 2, 3, 4}, []byte{1, 9, 9, 4}, []image.Change{{11, 38, false}, {49, 14, true}}},
		{"longer", []byte{1}, []byte{1, 2, 3}, []image.Change{{11, 25, false}}},
		{"shorter", []byte{1, 2}, []byte{1}, nil},
		{"moved", []byte{1, 2}, []byte{2, 1}, []image.Change{{0, 23, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := chunksOf(t, tt.a...)
			b, _ := chunksOf(t, tt.b...)
			u := image.UniqueOf(b)
			if got := image.Changes(a, u, u.Seeded(a)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSameRange(t *testing.T) {
	a, _ := chunksOf(t, 1, 2, 3)    // chunks end at 11, 23, 36
	b, _ := chunksOf(t, 5, 1, 2, 4) // at 15, 26, 38, 52
	c, _ := chunksOf(t, 1, 7, 3)    // at 0, 11, 28, 41
	tests := []struct {
		to            *index.Index
		offA, offB, n int64
		same, other   bool
	}{
		{b, 0, 15, 23, true, false},
		{b, 5, 20, 10, true, false},
		{b, 5, 21, 10, false, false},
		{b, 5, 20, 19, false, false},
		{b, 36, 52, 0, true, false},
		{b, 30, 46, 7, false, false},
		{c, 0, 0, 36, false, false}, // of another size
		{a, 0, 0, 36, true, false},
	}
	for _, tt := range tests {
		same, other := image.SameRange(a, tt.offA, tt.to, tt.offB, tt.n), image.OtherRange(a, tt.offA, tt.to, tt.offB, tt.n)
		if same != tt.same || other != tt.other {
			t.Errorf("%+v: same %v, other %v", tt, same, other)
		}
	}
	x, y := equalSizes(t, 1, 2, 3, 4), equalSizes(t, 1, 9, 3, 4)
	for _, tt := range []struct {
		off, n int64
		want   bool
	}{{0, 40, true}, {5, 30, true}, {0, 20, true}, {0, 19, false}, {11, 29, false}, {20, 20, false}} {
		if got := image.OtherRange(x, tt.off, y, tt.off, tt.n); got != tt.want {
			t.Errorf("other: %+v: %v", tt, got)
		}
	}
}

// equalSizes is an index of chunks of 10 bytes.
func equalSizes(t *testing.T, ids ...byte) *index.Index {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 100, Max: 200})
	for _, id := range ids {
		if err := b.Append(chunker.ID{id}, 10); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}
