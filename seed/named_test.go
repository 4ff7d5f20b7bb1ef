package seed_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/seed"
)

func writeIndex(t testing.TB, path string, x *index.Index) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := x.WriteTo(f); err != nil {
		t.Fatal(err)
	}
}

func TestAddNamed(t *testing.T) {
	data := noise(1, 100_000)
	x := cut(t, data, small, feature.Blob(chunker.SHA512_256))
	dir := t.TempDir()
	writeIndex(t, dir+"/disk.caibx", x)
	write(t, dir+"/disk", data)
	writeIndex(t, dir+"/image.caibx", x)
	write(t, dir+"/image.img", data)
	writeIndex(t, dir+"/alone.caibx", x)
	write(t, dir+"/with:colon", data)
	write(t, dir+"/broken.caibx", []byte("no index"))
	write(t, dir+"/broken", data)
	write(t, dir+"/tree.caidx", nil)
	write(t, dir+"/tree/f", data)
	for name, want := range map[string]string{ // "": it is found there
		"disk.caibx":             "",
		"image.caibx":            "",
		"disk":                   "",
		"with:colon":             "",
		"alone.caibx:disk":       "",
		"tree.caidx":             "",
		"tree.caidx:tree/f":      "tree.caidx: index: offset 0",
		"alone.caibx":            "its data is not beside it; name that, too",
		"broken.caibx":           "broken.caibx: index: offset",
		"alone.caibx:elsewhere":  "no such file",
		"none.caibx":             "its data is not beside it",
		"disk.caibx:none.caibx:": "no such file",
	} {
		s, _ := seeds(t, x)
		name, data, both := strings.Cut(name, ".caidx:")
		if both {
			name += ".caidx:" + dir + "/" + data
		}
		name, data, both = strings.Cut(name, ".caibx:")
		if both {
			name += ".caibx:" + dir + "/" + data
		}
		err := s.AddNamed(dir + "/" + name)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q in it", name, err, want)
			}
			continue
		}
		if err == nil {
			err = s.Index(t.Context(), nil)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if n := bytesFound(t, s, x); n != x.Size() {
			t.Errorf("%s: %d bytes of %d", name, n, x.Size())
		}
	}
}

func TestAddAll(t *testing.T) {
	a, b := noise(1, 100_000), noise(2, 100_000)
	flags := feature.Blob(chunker.SHA512_256)
	x := cut(t, slices.Concat(a, b), small, flags)
	dir := t.TempDir()
	write(t, dir+"/sub/a", a)
	writeIndex(t, dir+"/sub/a.caibx", cut(t, a, small, flags))
	write(t, dir+"/b", b)
	writeIndex(t, dir+"/b.caibx", cut(t, b, small, flags))
	writeIndex(t, dir+"/alone.caibx", x)
	write(t, dir+"/bad", b)
	write(t, dir+"/bad.caibx", []byte("no index"))
	for own, want := range map[string]int64{"": 190_000, dir + "/b.caibx": 95_000} {
		s, log := seeds(t, x)
		if err := s.AddAll(dir, own); err != nil {
			t.Fatal(err)
		}
		if err := s.Index(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n := bytesFound(t, s, x); n < want || n > want+10_000 {
			t.Errorf("own %q: %d bytes, want about %d", own, n, want)
		}
		if strings.Count(log.String(), "\n") != 1 {
			t.Error(log)
		}
	}
	s, _ := seeds(t, x)
	if err := s.AddAll(dir+"/none", ""); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// TestReread does not believe the indexes beside the seeds.
func TestReread(t *testing.T) {
	data := noise(1, 100_000)
	flags := feature.Blob(chunker.SHA512_256)
	x := cut(t, data, small, flags)
	dir := t.TempDir()
	write(t, dir+"/disk", data)
	writeIndex(t, dir+"/disk.caibx", cut(t, noise(2, 100_000), small, flags))
	s := seed.New(x, seed.Options{Reread: true})
	defer s.Close()
	if err := s.AddNamed(dir + "/disk.caibx"); err != nil {
		t.Fatal(err)
	}
	if err := s.Index(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := bytesFound(t, s, x); n != x.Size() {
		t.Errorf("%d bytes of %d", n, x.Size())
	}
}
