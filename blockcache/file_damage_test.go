package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"caravel/blockcache"
	"caravel/store"
)

// Whatever the two files hold when they are opened, no wrong byte is read, and
// what was right is not fetched again.
func TestFileDamaged(t *testing.T) {
	const size, chunk = 64 << 10, 4 << 10
	data := noise(size)
	x, s := image(t, data, chunk)
	path := filepath.Join(t.TempDir(), "f")
	rng := rand.New(rand.NewPCG(3, 4))
	fill := func(want int) {
		t.Helper()
		f := openFile(t, path, x, 1000, size-3000)
		img := blockcache.New(x, s, blockcache.Options{})
		img.Attach(f)
		defer img.Close()
		asked := s.asks()
		if got := content(t, img, 0, size); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
		if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(f.Backing(), 0, size)); err != nil || !bytes.Equal(got, data[1000:size-2000]) {
			t.Fatalf("wrong bytes in the file or %v", err)
		}
		closeFile(t, f)
		if n := s.asks() - asked; n > want {
			t.Errorf("%d requests, want %d at most", n, want)
		}
	}
	fill(16)
	damage := func(name string, from, to int64, n int) {
		t.Helper()
		b, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for range n {
			if _, err := b.WriteAt([]byte{byte(rng.Int())}, from+rng.Int64N(to-from)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 10 {
		damage(path, 0, size-3000, 1)
		fill(1)
		damage(path+".map", 4096, 4098, 2)
		fill(16)
		damage(path+".map", 8192, 8192+2000, 20)
		fill(2)
	}
}

// Readers go on, rightly, whatever becomes of the file meanwhile.
func TestFileCutMeanwhile(t *testing.T) {
	const size, chunk = 256 << 10, 4 << 10
	data := noise(size)
	tests := []struct {
		name string
		do   func(path string) error
		kept bool // the File can go on
	}{
		{"emptied", func(p string) error { return os.Truncate(p, 0) }, false},
		{"shortened by a byte", func(p string) error { return os.Truncate(p, size-1) }, false},
		{"deleted", os.Remove, true},
		{"both deleted", func(p string) error { return errors.Join(os.Remove(p), os.Remove(p+".map")) }, true},
		{"the map emptied", func(p string) error { return os.Truncate(p+".map", 0) }, true},
		{"renamed", func(p string) error { return os.Rename(p, p+"2") }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, s := image(t, data, chunk)
			path := filepath.Join(t.TempDir(), "f")
			var said bytes.Buffer
			opt := fileOf(x, 0, size)
			opt.Log = slog.New(slog.NewTextHandler(&said, nil))
			f, err := blockcache.OpenFile(path, x, opt)
			if err != nil {
				t.Fatal(err)
			}
			img := blockcache.New(x, s, blockcache.Options{})
			img.Attach(f)
			defer img.Close()
			for row := range 32 {
				if _, err := img.Keep(t.Context(), 2*row, store.Sweep); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.do(path); err != nil {
				t.Fatal(err)
			}
			for range 3 { // the chunks that come now make it longer again
				if got := content(t, img, 0, size); !bytes.Equal(got, data) {
					t.Fatal("wrong bytes")
				}
			}
			err = img.Fill(t.Context(), f, store.Sweep)
			if tt.kept && (err != nil || !f.Complete() || said.Len() != 0) {
				t.Errorf("%v, said %q", err, said.String())
			}
			if !tt.kept && (err == nil || f.Complete() || f.Backing() != nil || strings.Count(said.String(), "shortened while") != 1) {
				t.Errorf("%v, said %q", err, said.String())
			}
			closeFile(t, f)
		})
	}
}

// Sixteen goroutines read, keep and fill two openings of one file, while a third
// comes and goes.
func TestFileCrowd(t *testing.T) {
	data := holey(512 << 10)
	x, s := image(t, data, 5000, 100, 1, 7000, 4096)
	path := filepath.Join(t.TempDir(), "f")
	mem := blockcache.NewMemory(64 << 10)
	var files []*blockcache.File
	var imgs []*blockcache.Image
	for range 2 {
		f := openFile(t, path, x, 0, x.Size())
		files = append(files, f)
		imgs = append(imgs, blockcache.New(x, s, blockcache.Options{Memory: mem}))
		imgs[len(imgs)-1].Attach(f)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			img, rng := imgs[g%2], rand.New(rand.NewPCG(uint64(g), 0))
			p := make([]byte, 20_000)
			for range 30 {
				off := rng.Int64N(x.Size() - int64(len(p)))
				if _, err := img.View(store.Class(g%3)).ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, data[off:][:len(p)]) {
					t.Errorf("wrong bytes at %d or %v", off, err)
				}
				if _, err := img.Keep(t.Context(), rng.IntN(x.Len()), store.Sweep); err != nil {
					t.Error(err)
				}
				img.View(store.ReadAhead).Want(blockcache.Range{Off: off, Len: 30_000})
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			f := openFile(t, path, x, 0, x.Size())
			imgs[0].Attach(f)
			imgs[0].Detach(f)
			closeFile(t, f)
		}
	})
	for i := range imgs {
		wg.Go(func() {
			if err := imgs[i].Fill(t.Context(), files[i], store.Sweep); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, img := range imgs {
		if got, err := io.ReadAll(io.NewSectionReader(files[i].Backing(), 0, x.Size())); err != nil || !bytes.Equal(got, data) {
			t.Errorf("wrong bytes or %v", err)
		}
		img.Close()
		closeFile(t, files[i])
	}
	if st := mem.Stats(); s.live != st.Bytes {
		t.Errorf("%d bytes of chunks were not released", s.live-st.Bytes)
	}
}

// A File that was closed is left alone by the image.
func TestFileClosedFirst(t *testing.T) {
	data := noise(20_000)
	x, s := image(t, data, 1000)
	f := openFile(t, filepath.Join(t.TempDir(), "f"), x, 0, x.Size())
	img := blockcache.New(x, s, blockcache.Options{})
	img.Attach(f)
	defer img.Close()
	_ = content(t, img, 0, 10_000)
	closeFile(t, f)
	if got := content(t, img, 0, x.Size()); !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
	if _, err := img.Keep(t.Context(), 15, store.Sweep); err == nil || img.Kept(t.Context(), 15) {
		t.Errorf("Keep: %v", err)
	}
	if err := img.Fill(context.Background(), f, store.Sweep); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Fill: %v", err)
	}
}
