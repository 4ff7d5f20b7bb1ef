package blockcache_test

import (
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// ranges are those that seq yields, in units.
func ranges(seq iter.Seq2[int64, int64], unit int64) string {
	var all []string
	for off, n := range seq {
		all = append(all, fmt.Sprintf("%d+%d", off/unit, n/unit))
	}
	return strings.Join(all, " ")
}

func TestLocal(t *testing.T) {
	data := append(noise(9000), make([]byte, 1000)...)
	x, s := image(t, data, 1000)
	kept := &keeping{fakeStore: s, kept: make(map[chunker.ID]bool)}
	for _, tt := range []struct {
		name string
		kept store.Store
		file bool
		want string // after a read of chunk 2, and chunk 4 having been kept
	}{
		{"memory", nil, false, "2+1 9+1"},
		{"cache on disk", kept, false, "2+1 4+1 9+1"},
		{"file", nil, true, "2+1 4+1 9+1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var from store.Store = s
			if tt.kept != nil {
				from = tt.kept
			}
			path := filepath.Join(t.TempDir(), "f")
			img := blockcache.New(x, from, blockcache.Options{Memory: blockcache.NewMemory(1 << 20), Kept: tt.kept})
			defer img.Close()
			if tt.file {
				img.Attach(openFile(t, path, x, 0, x.Size()))
			}
			if got := ranges(img.Local(0, x.Size()), 1000); got != "9+1" {
				t.Errorf("at first %s", got)
			}
			_ = content(t, img, 2000, 1)
			if tt.kept != nil || tt.file {
				if _, err := img.Keep(t.Context(), 4, store.Sweep); err != nil {
					t.Fatal(err)
				}
			}
			asked := s.asks()
			if got := ranges(img.Local(0, x.Size()), 1000); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got := ranges(img.Local(2999, 1), 1000); got != "2+1" {
				t.Errorf("one byte: %s", got)
			}
			if got := ranges(img.Local(x.Size(), 1), 1000); got != "" {
				t.Errorf("behind the end: %s", got)
			}
			for range img.Local(0, x.Size()) {
				break // must not be called again
			}
			if s.asks() != asked {
				t.Error("something was fetched")
			}
		})
	}
}

// TestLocalFromAnEarlierRun: what a file has is here, though it has to be
// verified when it is read.
func TestLocalFromAnEarlierRun(t *testing.T) {
	x, s := image(t, noise(5000), 1000)
	path := filepath.Join(t.TempDir(), "f")
	for i, want := range []string{"", "3+1"} {
		img := blockcache.New(x, s, blockcache.Options{})
		f := openFile(t, path, x, 0, x.Size())
		img.Attach(f)
		if got := ranges(img.Local(0, x.Size()), 1000); got != want {
			t.Errorf("run %d: %q, want %q", i, got, want)
		}
		if _, err := img.Keep(t.Context(), 3, store.Sweep); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		img.Close()
	}
}

// TestLocalIsBounded: one call looks at so many chunks and says where it stopped.
func TestLocalIsBounded(t *testing.T) {
	const most = 4 << 10
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 4, Max: 4})
	id := chunker.SHA512_256.Sum([]byte("data"))
	for range most + 10 {
		if err := b.Append(id, 4); err != nil {
			t.Fatal(err)
		}
	}
	img := blockcache.New(b.Index(), nil, blockcache.Options{})
	defer img.Close()
	for _, tt := range []struct {
		off, n int64
		want   string
	}{
		{0, (most + 10) * 4, fmt.Sprintf("%d+0", most)},
		{40, (most + 10) * 4, ""},
		{0, most * 4, ""},
		{0, most*4 + 1, fmt.Sprintf("%d+0", most)},
	} {
		if got := ranges(img.Local(tt.off, tt.n), 4); got != tt.want {
			t.Errorf("%d bytes at %d: %q, want %q", tt.n, tt.off, got, tt.want)
		}
	}
}
