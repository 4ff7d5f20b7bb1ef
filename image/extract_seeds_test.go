package image_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"caravel/chunker"
	"caravel/image"
	"caravel/index"
	"caravel/seed"
)

// indexed makes a shelf and an index of data.
func indexed(t testing.TB, data []byte) (*shelf, *index.Index) {
	t.Helper()
	s := newShelf()
	m, err := image.Make(t.Context(), bytes.NewReader(data), s, image.MakeOptions{Params: small})
	if err != nil {
		t.Fatal(err)
	}
	s.gets.Store(0)
	return s, m.Index
}

// TestExtractMovesWhatIsElsewhere writes into a file, or replaces one, that has most of the
// image in other places.
func TestExtractMovesWhatIsElsewhere(t *testing.T) {
	a, b, c := noise(1, 150_000), noise(2, 100_000), noise(3, 120_000)
	for _, tt := range []struct {
		name     string
		old, now []byte
	}{
		{"something in front", slices.Concat(a, b, c), slices.Concat(noise(9, 777), a, b, c)},
		{"something gone in front", slices.Concat(noise(9, 5001), a, b, c), slices.Concat(a, b, c)},
		{"two changed places", slices.Concat(a, b, c), slices.Concat(c, b, a)},
		{"in a circle", slices.Concat(a, b, c), slices.Concat(b, c, a)},
		{"twice", slices.Concat(a, c), slices.Concat(a, b[:500], a, c[:50_000], a)},
		{"from behind the new end", slices.Concat(noise(8, 300_000), a), a},
		{"across a hole", slices.Concat(a, make([]byte, 300_000), c), slices.Concat(c, make([]byte, 200_000), a)},
	} {
		s, x := indexed(t, tt.now)
		for _, opt := range []image.ExtractOptions{{}, {InPlace: true}, {Fill: true}, {InPlace: true, Fill: true}} {
			path := filepath.Join(t.TempDir(), "disk.img")
			write(tt.old, 0o644)(t, path)
			plan := opt
			plan.DryRun = true
			want, err := image.Extract(t.Context(), x, nil, path, plan)
			if err != nil {
				t.Fatal(err)
			}
			same(t, path, tt.old)
			s.gets.Store(0)
			got, err := image.Extract(t.Context(), x, s, path, opt)
			if err != nil {
				t.Fatal(err)
			}
			same(t, path, tt.now)
			if n := s.gets.Load(); n > 12 || n != got.Fetched.Chunks {
				t.Errorf("%s, %+v: %d chunks fetched of %d: %+v", tt.name, opt, n, x.Len(), got)
			}
			got.Cloned, got.Block, want.Block = 0, 0, 0 // which a plan need not know
			if got != want {
				t.Errorf("%s, %+v: planned %+v, got %+v", tt.name, opt, want, got)
			}
			if names := leftovers(t, path); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		}
	}
}

// TestExtractWithoutTheOld fetches what has moved.
func TestExtractWithoutTheOld(t *testing.T) {
	data := noise(1, 100_000)
	s, x := indexed(t, append([]byte("in front"), data...))
	for _, inPlace := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "disk.img")
		write(data, 0o644)(t, path)
		got, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{InPlace: inPlace, NoOld: true})
		if err != nil {
			t.Fatal(err)
		}
		if got.Seeded.Bytes > 0 || got.Fetched.Bytes == 0 {
			t.Errorf("%+v", got)
		}
	}
}

// TestExtractFetchesOnce asks for a chunk that repeats one time.
func TestExtractFetchesOnce(t *testing.T) {
	part := noise(1, 60_000)
	data := slices.Concat(part, noise(2, 5000), part, part, make([]byte, 100_000), part)
	s, x := indexed(t, data)
	ids := map[chunker.ID]bool{}
	for i := range x.Len() {
		ids[x.Chunk(i).ID] = true
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	got, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, path, data)
	if n := s.gets.Load(); n > int64(len(ids)) || got.Repeated.Bytes < 3*50_000 {
		t.Errorf("%d requests for %d chunks, %+v", n, len(ids), got)
	}
}

// TestExtractFromSeedsThatChange gets what a seed lacks, or has otherwise, from the store.
func TestExtractFromSeedsThatChange(t *testing.T) {
	data := noise(1, 300_000)
	s, x := indexed(t, data)
	for name, change := range map[string]func(path string) error{
		"shorter": func(path string) error { return os.Truncate(path, 1234) },
		"other":   func(path string) error { return os.WriteFile(path, noise(2, len(data)+5), 0o644) },
	} {
		dir := t.TempDir()
		from, path := filepath.Join(dir, "seed"), filepath.Join(dir, "disk.img")
		write(data, 0o644)(t, from)
		seeds := seed.New(x, seed.Options{})
		defer seeds.Close()
		if err := seeds.AddIndexed(from, x); err != nil {
			t.Fatal(err)
		}
		if err := seeds.Index(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := change(from); err != nil {
			t.Fatal(err)
		}
		if _, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{Seeds: seeds}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, path, data)
	}
}

// edited is data after some random edits.
func edited(r *rand.Rand, data []byte) []byte {
	out := slices.Clone(data)
	for range r.IntN(4) {
		at := r.IntN(len(out) + 1)
		n := min(r.IntN(30_000), len(out)-at)
		switch r.IntN(5) {
		case 0:
			out = slices.Delete(out, at, at+n)
		case 1:
			out = slices.Insert(out, at, noise(r.Uint64(), n)...)
		case 2:
			copy(out[at:at+n], noise(r.Uint64(), n))
		case 3:
			clear(out[at : at+n])
		default:
			part := slices.Clone(out[at : at+n])
			out = slices.Insert(out, r.IntN(len(out)+1), part...)
		}
	}
	return out
}

// TestExtractRandomly makes an image of random edits of a random one, and extracts it with
// random seeds, flags and prior targets.
func TestExtractRandomly(t *testing.T) {
	rounds := 60
	if os.Getenv("CARAVEL_LONG") != "" {
		rounds = 3000
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 7))
		base := edited(r, content()[r.IntN(100_000):])
		now := edited(r, base)
		s, x := indexed(t, now)
		dir := t.TempDir()
		path := filepath.Join(dir, "out", "disk.img")
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			write(edited(r, base), 0o644)(t, path)
		}
		seeds := seed.New(x, seed.Options{Workers: 1 + r.IntN(3)})
		for range r.IntN(3) {
			from := filepath.Join(dir, "seed", string(rune('a'+r.IntN(9))))
			_ = os.Mkdir(filepath.Dir(from), 0o755)
			data := edited(r, base)
			write(data, 0o644)(t, from)
			var err error
			switch r.IntN(3) {
			case 0:
				err = seeds.Add(from)
			case 1:
				err = seeds.Add(filepath.Dir(from))
			default:
				_, of := indexed(t, edited(r, data)) // which may be wrong
				err = seeds.AddIndexed(from, of)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		opt := image.ExtractOptions{
			InPlace:   r.IntN(2) == 0,
			Fill:      r.IntN(3) == 0,
			NoOld:     r.IntN(4) == 0,
			NoReflink: r.IntN(2) == 0,
			InFlight:  1 + r.IntN(20),
			Seeds:     seeds,
		}
		got, err := image.Extract(t.Context(), x, s, path, opt)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		same(t, path, now)
		sum := got.Kept.Bytes + got.Holes.Bytes + got.Seeded.Bytes + got.Repeated.Bytes + got.Fetched.Bytes
		if sum != x.Size() || got.Fetched.Chunks != s.gets.Load() {
			t.Errorf("round %d: %+v of %d, %d requests", round, got, x.Size(), s.gets.Load())
		}
		if t.Failed() {
			t.Fatalf("round %d, %+v", round, opt)
		}
		seeds.Close()
		os.RemoveAll(dir)
	}
}
