package seed_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"caravel/catar/walk"
	"caravel/feature"
	"caravel/index"
)

// packed is the archive of a directory.
func packed(t testing.TB, dir string, f feature.Flags) []byte {
	t.Helper()
	r, err := walk.Open(t.Context(), dir, f, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeedsOfATree makes of a directory what the index is of, with the flags that it names.
func TestSeedsOfATree(t *testing.T) {
	dir := t.TempDir()
	for i := range 150 { // more than are kept open
		write(t, fmt.Sprintf("%s/d%d/f%d", dir, i%7, i), noise(uint64(i), i*40))
	}
	write(t, dir+"/large", noise(1000, 600_000))
	if err := os.Symlink("large", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	flags := (feature.Unix | feature.SHA512_256 | feature.ExcludeFile).Normal()
	x := cut(t, packed(t, dir, flags), small, flags)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T)
		least  int64 // percent
	}{
		{"as it was", func(*testing.T) {}, 100},
		{"a file is new, one is gone, one longer", func(t *testing.T) {
			write(t, dir+"/d3/new", noise(2000, 5000))
			write(t, dir+"/large", append([]byte("more "), noise(1000, 600_000)...))
			if err := os.Remove(filepath.Join(dir, "d5", "f12")); err != nil {
				t.Fatal(err)
			}
		}, 95},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change(t)
			s, log := seeds(t, x)
			if err := s.Add(dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Index(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if n := bytesFound(t, s, x); n*100 < x.Size()*tt.least || log.Len() > 0 {
				t.Errorf("%d bytes of %d; %s", n, x.Size(), log)
			}
			useTheLargeFile(t, s, x, dir)
		})
	}
}

// useTheLargeFile makes sure that chunks in the midst of a file can be had from there.
func useTheLargeFile(t *testing.T, s finder, x *index.Index, dir string) {
	t.Helper()
	used := 0
	for i := range x.Len() {
		c := x.Chunk(i)
		sd, off, ok := s.Find(c.ID)
		if !ok {
			continue
		}
		_ = sd.Use(off, int64(c.Size), func(f *os.File, at int64) error {
			b := make([]byte, c.Size)
			if _, err := f.ReadAt(b, at); err != nil || x.Digest().Sum(b) != c.ID {
				t.Errorf("%s at %d: not the chunk, %v", f.Name(), at, err)
			}
			if f.Name() == filepath.Join(dir, "large") {
				used++
			}
			return nil
		})
	}
	if used < 300 {
		t.Errorf("%d chunks are in the large file", used)
	}
}

// TestTreeThatCannotBePacked is a warning, and nothing is found.
func TestTreeThatCannotBePacked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/sub/f", noise(1, 10_000))
	flags := (feature.Unix | feature.SHA512_256).Normal()
	x := cut(t, packed(t, dir, flags), small, flags)
	s, log := seeds(t, x)
	if err := s.Add(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Index(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := bytesFound(t, s, x); n != 0 || log.Len() == 0 {
		t.Errorf("%d bytes; %s", n, log)
	}
}
