package blockcache_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store"
)

// holey is n bytes of noise with some holes in it.
func holey(n int) []byte {
	b := noise(n)
	clear(b[n/4 : n/2])
	clear(b[n-n/8:])
	return b
}

// openFile opens a file of the n bytes at off of an image. The digest of its
// index file is that of its first ID.
func openFile(t testing.TB, path string, x *index.Index, off, n int64) *blockcache.File {
	t.Helper()
	f, err := blockcache.OpenFile(path, x, fileOf(x, off, n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func fileOf(x *index.Index, off, n int64) blockcache.FileOptions {
	return blockcache.FileOptions{Index: x.Chunk(0).ID, Off: off, Size: n}
}

// closeFile closes a file, after which all of it is on disk.
func closeFile(t testing.TB, f *blockcache.File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// content reads all of a part of an image through one view.
func content(t testing.TB, img *blockcache.Image, off, n int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := img.View(store.Demand).ReadAt(t.Context(), p, off); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return p
}

// What was read is in the file, holes are holes, and the next run asks the store
// for what was not read.
func TestFile(t *testing.T) {
	const size, chunk = 1 << 20, 8 << 10
	data := holey(size)
	x, s := image(t, data, chunk)
	path := filepath.Join(t.TempDir(), "disk.img")

	f := openFile(t, path, x, 0, size)
	img := blockcache.New(x, s, blockcache.Options{})
	img.Attach(f)
	if got := content(t, img, 0, size/8); !bytes.Equal(got, data[:size/8]) {
		t.Error("wrong bytes")
	}
	if f.Complete() || f.Backing() != nil || img.Backing(0, size) != nil {
		t.Error("complete after an eighth")
	}
	img.Close()
	closeFile(t, f)
	if here, all := f.Chunks(); here != 16 || all != 128 {
		t.Errorf("%d of %d chunks are there, want 16 of 128", here, all)
	}

	asked := s.asks()
	f = openFile(t, path, x, 0, size)
	img = blockcache.New(x, s, blockcache.Options{})
	img.Attach(f)
	if here, _ := f.Chunks(); here != 0 {
		t.Errorf("%d chunks are believed that nobody has verified", here)
	}
	for range 2 {
		if got := content(t, img, 0, size/8); !bytes.Equal(got, data[:size/8]) {
			t.Error("wrong bytes")
		}
	}
	if n := s.asks() - asked; n != 0 {
		t.Errorf("%d requests for what was there", n)
	}
	if st := img.Stats(); st.File != 32 || st.Misses != 0 {
		t.Errorf("%+v, want 32 chunks from the file", st)
	}
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
		t.Fatal(err)
	}
	if !f.Complete() {
		t.Fatal("not complete after Fill")
	}
	if n := s.asks(); n != 128-32-16 {
		t.Errorf("%d requests in all, want one for each chunk of noise", n)
	}
	b := img.Backing(0, size)
	if b == nil || b != f.Backing() || img.Backing(1, size-1) != nil {
		t.Fatal("no backing, or one for another range")
	}
	if got, err := io.ReadAll(io.NewSectionReader(b, 0, size+1)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file is not the image (%v)", err)
	}
	if _, err := b.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the backing can be written to")
	}
	img.Close()
	closeFile(t, f)
	if on := onDisk(t, path); on >= size-size/8 {
		t.Errorf("%d bytes on disk: the holes are no holes", on)
	}
	if f.Complete() || f.Backing() != nil {
		t.Error("complete after Close")
	}
}

// The parts of an image, cut anywhere, keep the chunks across their borders and
// are complete in the next run without the store.
func TestFileParts(t *testing.T) {
	data := holey(200_000)
	x, s := image(t, data, 7000, 100, 9000, 20_000, 4096)
	dir := t.TempDir()
	for run := range 3 {
		img := blockcache.New(x, s, blockcache.Options{})
		asked := s.asks()
		var files []*blockcache.File
		for i, cut := range [][2]int64{{0, 100}, {100, 100}, {200, 0}, {5000, 65_000}, {70_000, 1}, {100_000, 100_000}} {
			f := openFile(t, filepath.Join(dir, string(rune('a'+i))), x, cut[0], cut[1])
			img.Attach(f)
			files = append(files, f)
			if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
				t.Fatal(err)
			}
			b := f.Backing()
			if b == nil {
				t.Fatalf("run %d: %v: not complete", run, cut)
			}
			got, err := io.ReadAll(io.NewSectionReader(b, 0, 1<<20))
			if err != nil || !bytes.Equal(got, data[cut[0]:cut[0]+cut[1]]) {
				t.Errorf("run %d: %v: wrong bytes or %v", run, cut, err)
			}
		}
		if n := s.asks() - asked; run > 0 && n != 0 {
			t.Errorf("run %d: %d requests", run, n)
		}
		if got := content(t, img, 0, int64(len(data))); !bytes.Equal(got, data) {
			t.Errorf("run %d: wrong bytes", run)
		}
		if st := img.Stats(); st.File == 0 {
			t.Errorf("run %d: nothing was read from the files", run)
		}
		img.Close()
		for _, f := range files {
			img.Detach(f)
			closeFile(t, f)
		}
	}
}

func TestOpenFileRefuses(t *testing.T) {
	x, s := image(t, noise(10_000), 1000)
	other, _ := image(t, noise(9000)[1:], 1000)
	whole := fileOf(x, 0, 10_000)
	make10 := func(t *testing.T, path string) { // a good one, with all of it
		f := openFile(t, path, x, 0, 10_000)
		img := blockcache.New(x, s, blockcache.Options{})
		img.Attach(f)
		defer img.Close()
		if err := img.Fill(t.Context(), f, store.Demand); err != nil {
			t.Fatal(err)
		}
		closeFile(t, f)
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		made func(t *testing.T, path string)
		opt  blockcache.FileOptions
		want string // "": it is opened
	}{
		{"nothing there", func(*testing.T, string) {}, whole, ""},
		{"empty file", func(t *testing.T, p string) { must(t, os.WriteFile(p, nil, 0o600)) }, whole, ""},
		{"empty file with rubbish for a map", func(t *testing.T, p string) {
			must(t, errors.Join(os.WriteFile(p, nil, 0o600), os.WriteFile(p+".map", noise(5000), 0o600)))
		}, whole, ""},
		{"emptied", func(t *testing.T, p string) { make10(t, p); must(t, os.Truncate(p, 0)) }, whole, ""},
		{"ours", make10, whole, ""},
		{"somebody's", func(t *testing.T, p string) { must(t, os.WriteFile(p, noise(10_000), 0o600)) }, whole, "is not empty and has no map (f.map)"},
		{"of another size", func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte("x"), 0o600)) }, whole, "1 bytes long, not 10000"},
		{"shortened", func(t *testing.T, p string) { make10(t, p); must(t, os.Truncate(p, 9999)) }, whole, "9999 bytes long, not 10000"},
		{"lengthened", func(t *testing.T, p string) { make10(t, p); must(t, os.Truncate(p, 10_001)) }, whole, "10001 bytes long, not 10000"},
		{"of another index", make10, fileOf(other, 0, 10_000), "f.map: a map of another index"},
		{"of another part", make10, fileOf(x, 0, 9000), "10000 bytes long, not 9000"},
		{"of another part as long", make10, fileOf(x, 0, 10_000), ""},
		{"a damaged map", func(t *testing.T, p string) { make10(t, p); must(t, os.WriteFile(p+".map", noise(9000), 0o600)) }, whole, "f.map: not a map of a materialised image"},
		{"a map that is gone", func(t *testing.T, p string) { make10(t, p); must(t, os.Remove(p+".map")) }, whole, "has no map (f.map)"},
		{"a link", func(t *testing.T, p string) { make10(t, p+"2"); must(t, os.Symlink(p+"2", p)) }, whole, "f: is a symbolic link"},
		{"a link to nothing", func(t *testing.T, p string) { must(t, os.Symlink(p+"2", p)) }, whole, "f: is a symbolic link"},
		{"a map that is a link", func(t *testing.T, p string) {
			make10(t, p)
			must(t, os.Rename(p+".map", p+"2"))
			must(t, os.Symlink(p+"2", p+".map"))
		}, whole, "f.map: is a symbolic link"},
		{"a directory", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o700)) }, whole, "f: is not a regular file"},
		{"no directory", func(t *testing.T, p string) { must(t, os.Remove(filepath.Dir(p))) }, whole, "no such file or directory"},
		{"behind the end", func(*testing.T, string) {}, fileOf(x, 1, 10_000), "10000 bytes at 1, outside of an image of 10000"},
		{"before the beginning", func(*testing.T, string) {}, fileOf(x, -1, 5), "5 bytes at -1, outside"},
		{"a size that overflows", func(*testing.T, string) {}, fileOf(x, 1, 1<<63-1), "outside of an image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			tt.made(t, path)
			before, _ := os.ReadFile(path)
			use := x
			if tt.opt.Index == fileOf(other, 0, 0).Index {
				use = other
				tt.opt.Size = other.Size()
				if err := os.Truncate(path, other.Size()); err != nil {
					t.Fatal(err)
				}
				before = before[:other.Size()]
			}
			f, err := blockcache.OpenFile(path, use, tt.opt)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				img := blockcache.New(use, s, blockcache.Options{})
				img.Attach(f)
				defer img.Close()
				if err := img.Fill(t.Context(), f, store.Demand); err != nil {
					t.Error(err)
				}
				closeFile(t, f)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), "blockcache: ") != 1 {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("what was refused was changed")
			}
		})
	}
}
