package blockcache_test

import (
	"slices"
	"testing"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

func TestHoles(t *testing.T) {
	p := chunker.Params{Min: 16, Avg: 64, Max: 256}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), p)
	zero := chunker.SHA512_256.Sum(make([]byte, 256))
	for _, isHole := range []bool{false, true, true, false, true, false} {
		id := chunker.SHA512_256.Sum([]byte("data"))
		if isHole {
			id = zero
		}
		if err := b.Append(id, 256); err != nil {
			t.Fatal(err)
		}
	}
	img := blockcache.New(b.Index(), nil, blockcache.Options{})
	defer img.Close()
	tests := []struct {
		off, n int64
		want   [][2]int64
	}{
		{0, 6 * 256, [][2]int64{{256, 512}, {1024, 256}}},
		{0, 256, nil},
		{0, 257, [][2]int64{{256, 256}}},
		{600, 1, [][2]int64{{512, 256}}},
		{1024, 10_000, [][2]int64{{1024, 256}}},
		{1536, 1, nil},
	}
	for _, tt := range tests {
		var got [][2]int64
		for off, n := range img.Holes(tt.off, tt.n) {
			got = append(got, [2]int64{off, n})
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%d bytes at %d: %v, want %v", tt.n, tt.off, got, tt.want)
		}
	}
	for range img.Holes(0, 6*256) {
		break // must not be called again
	}
}
