package seed_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/seed"
	"caravel/store"
)

// small makes many chunks of little data.
var small = chunker.Params{Min: 256, Avg: 1024, Max: 4096}

// noise is n bytes that repeat for the same seed.
func noise(n uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(n, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// cut is the index of data, in the sizes p.
func cut(t testing.TB, data []byte, p chunker.Params, f feature.Flags) *index.Index {
	t.Helper()
	b := index.NewBuilder(f, p)
	for chunk, err := range chunker.Chunks(bytes.NewReader(data), p) {
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append(f.Digest().Sum(chunk), len(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// seeds makes a set for x that logs to the buffer.
func seeds(t testing.TB, x *index.Index) (*seed.Set, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	s := seed.New(x, seed.Options{Workers: 3, Log: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, log
}

// A finder is what a Set is.
type finder interface {
	Find(id chunker.ID) (*seed.Seed, int64, bool)
}

// bytesFound gets all chunks of x from s, and counts the bytes of those that are there.
func bytesFound(t testing.TB, s store.Store, x *index.Index) (n int64) {
	t.Helper()
	for i := range x.Len() {
		c := x.Chunk(i)
		got, err := s.Get(t.Context(), store.Want{ID: c.ID, Size: c.Size, Digest: x.Digest()})
		if errors.Is(err, store.ErrMissing) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := got.Plain(); err != nil || x.Digest().Sum(plain) != c.ID {
			t.Fatalf("chunk %d: other bytes, %v", i, err)
		}
		got.Release()
		n += int64(c.Size)
	}
	return n
}

func TestSeedsOfADisk(t *testing.T) {
	old := slices.Concat(noise(1, 300_000), make([]byte, 200_000), noise(2, 300_000))
	now := slices.Concat(noise(3, 777), old[:400_000], noise(4, 1000), old[400_000:])
	x := cut(t, now, small, feature.Blob(chunker.SHA512_256))
	tests := []struct {
		name  string
		setup func(dir string)
		add   func(s *seed.Set, dir string) error
	}{
		{"file", func(dir string) { write(t, dir+"/old", old) },
			func(s *seed.Set, dir string) error { return s.Add(dir + "/old") }},
		{"sparse file", func(dir string) { sparse(t, dir+"/old", old) },
			func(s *seed.Set, dir string) error { return s.Add(dir + "/old") }},
		{"directory of files", func(dir string) {
			write(t, dir+"/a/b", old[:350_000])
			sparse(t, dir+"/a/c", old[350_000:])
			write(t, dir+"/empty", nil)
		}, func(s *seed.Set, dir string) error { return s.Add(dir) }},
		{"two files", func(dir string) {
			write(t, dir+"/b", old[:350_000])
			write(t, dir+"/c", old[350_000:])
		}, func(s *seed.Set, dir string) error { return errors.Join(s.Add(dir+"/b"), s.Add(dir+"/c")) }},
		{"file with its index", func(dir string) { write(t, dir+"/old", old) },
			func(s *seed.Set, dir string) error { return s.AddIndexed(dir+"/old", cut(t, old, small, x.Flags)) }},
		{"file with an index in other sizes", func(dir string) { write(t, dir+"/old", old) },
			func(s *seed.Set, dir string) error {
				return s.AddIndexed(dir+"/old", cut(t, old, chunker.Params{Min: 512, Avg: 2048, Max: 8192}, x.Flags))
			}},
		{"file with an index by another digest", func(dir string) { write(t, dir+"/old", old) },
			func(s *seed.Set, dir string) error {
				return s.AddIndexed(dir+"/old", cut(t, old, small, feature.Blob(chunker.SHA256)))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.setup(dir)
			s, log := seeds(t, x)
			if err := tt.add(s, dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Index(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got := bytesFound(t, s, x); got < int64(len(old))*95/100 {
				t.Errorf("%d bytes found of %d", got, len(old))
			}
			if log.Len() > 0 {
				t.Error(log)
			}
		})
	}
}

// sparse writes a file with holes where data has zeros.
func sparse(t testing.TB, path string, data []byte) {
	t.Helper()
	write(t, path, nil)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	const block = 4096
	for off := 0; off < len(data); off += block {
		b := data[off:min(off+block, len(data))]
		if bytes.Count(b, []byte{0}) < len(b) {
			if _, err := f.WriteAt(b, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestHolesAreCutAsZeros finds each chunk of a sparse file, also those that reach out of a hole.
func TestHolesAreCutAsZeros(t *testing.T) {
	data := slices.Concat(make([]byte, 1_000_123), noise(1, 5000), make([]byte, 3_333_333), noise(2, 70_000), make([]byte, 50_001), noise(3, 20))
	for _, p := range []chunker.Params{small, {Min: 1024, Avg: 1024, Max: 1024}, {Min: 1, Avg: 64, Max: 100}} {
		x := cut(t, data, p, feature.Blob(chunker.SHA256))
		path := filepath.Join(t.TempDir(), "f")
		sparse(t, path, data)
		s, _ := seeds(t, x)
		if err := s.Add(path); err != nil {
			t.Fatal(err)
		}
		zeros := x.Digest().Sum(make([]byte, x.Chunk(0).Size)) // what a hole consists of is not looked for
		if err := s.Index(t.Context(), func(row int) bool { return x.Chunk(row).ID != zeros }); err != nil {
			t.Fatal(err)
		}
		for i := range x.Len() {
			if _, _, ok := s.Find(x.Chunk(i).ID); !ok && x.Chunk(i).ID != zeros {
				t.Errorf("%v: chunk %d of %d at %d is not found", p, i, x.Len(), x.Chunk(i).Start)
			}
		}
	}
}

// TestOnlyWhatIsWanted leaves the rest alone, also what another Index wanted before.
func TestOnlyWhatIsWanted(t *testing.T) {
	data := noise(1, 200_000)
	x := cut(t, data, small, feature.Blob(chunker.SHA512_256))
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, data)
	s, _ := seeds(t, x)
	if err := s.Add(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Index(t.Context(), func(row int) bool { return row == 7 || row == 20 }); err != nil {
		t.Fatal(err)
	}
	for i := range x.Len() {
		if _, _, ok := s.Find(x.Chunk(i).ID); ok != (i == 7 || i == 20) {
			t.Errorf("chunk %d: %v", i, ok)
		}
	}
}

// TestSeedsThatChange give nothing wrong, and one warning.
func TestSeedsThatChange(t *testing.T) {
	data := noise(1, 300_000)
	x := cut(t, data, small, feature.Blob(chunker.SHA512_256))
	for _, tt := range []struct {
		name   string
		change func(path string)
		want   string
	}{
		{"short", func(path string) { _ = os.Truncate(path, 1000) }, "changed meanwhile"},
		{"other bytes", func(path string) { write(t, path, noise(2, len(data))) }, "changed meanwhile"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "sub", "f")
		write(t, path, data)
		for _, add := range []string{path, dir} {
			write(t, path, data)
			s, log := seeds(t, x)
			if err := s.Add(add); err != nil {
				t.Fatal(err)
			}
			if err := s.Index(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			tt.change(path)
			if n := bytesFound(t, s, x); n > 1000 {
				t.Errorf("%s: %d bytes", tt.name, n)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tt.want) {
				t.Errorf("%s: %s", tt.name, got)
			}
		}
	}
	t.Run("its index lies", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, noise(3, len(data)))
		s, log := seeds(t, x)
		if err := s.AddIndexed(path, x); err != nil {
			t.Fatal(err)
		}
		if err := s.Index(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n := bytesFound(t, s, x); n != 0 || strings.Count(log.String(), "not what its index says") != 1 {
			t.Errorf("%d bytes; %s", n, log)
		}
	})
}

func TestAddRefuses(t *testing.T) {
	s, _ := seeds(t, cut(t, noise(1, 5000), small, feature.Blob(chunker.SHA256)))
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "no such file",
		os.DevNull:                         "neither a file",
	} {
		if err := s.Add(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
