package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store"
)

const (
	treeFileSize = largeFile
	treeFileMany = 6
)

// filesIn makes an image of a few large files, kept in a cache at dir; nothing is
// fetched but what is read.
func filesIn(t *testing.T, dir string) (files *treeFiles, data []byte) {
	t.Helper()
	data = make([]byte, treeFileMany*treeFileSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	from := t.TempDir()
	blob, caibx := filepath.Join(from, "blob"), filepath.Join(from, "blob.caibx")
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
	does(t, "make", "--no-sync", caibx, blob)
	o := lazyIn(t, dir, func(o *lazyOptions) {
		o.materialize, o.noSweep = materializeYes, true
		o.source.memory = 1 // so that files are read, not what is in memory
	})
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	src, err := o.image(t.Context(), caibx, reading{})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := o.placeOnDisk(src)
	if err != nil {
		t.Fatal(err)
	}
	img := o.cache(src)
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Error(err)
		}
		if n := openBelow(t, dir+"/images"); n != 0 {
			t.Errorf("%d descriptors are open at the end", n)
		}
	})
	return img.newTreeFiles(disk), data
}

// openNumber opens file i as a mount does.
func (t *treeFiles) openNumber(i int) reader {
	off := int64(i) * treeFileSize
	return t.open(off, treeFileSize, partOf{t.img.View(store.Demand), off})
}

// A partOf reads an image from an offset on.
type partOf struct {
	reader
	off int64
}

func (p partOf) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	return p.reader.ReadAt(ctx, b, p.off+off)
}

func readsRight(t *testing.T, r reader, i int, data []byte) {
	t.Helper()
	got := make([]byte, 10_000)
	n, err := r.ReadAt(t.Context(), got, 5000)
	if from := i*treeFileSize + 5000; err != nil || !bytes.Equal(got[:n], data[from:from+len(got)]) {
		t.Errorf("file %d: %d bytes, not those wanted, %v", i, n, err)
	}
}

func closes(t *testing.T, r reader) {
	t.Helper()
	if c, ok := r.(*treeFileReader); ok {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// openBelow counts this process's descriptors of files in dir.
func openBelow(t *testing.T, dir string) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, dir+"/") {
			n++
		}
	}
	return n
}

// However many files were opened, and however little of each was read, no more
// than so many are held open, and none is the worse for it.
func TestTreeFilesGiveWay(t *testing.T) {
	dir := t.TempDir()
	files, data := filesIn(t, dir)
	files.most = 2
	for range 2 {
		for i := range treeFileMany {
			r := files.openNumber(i)
			readsRight(t, r, i, data)
			if n := openBelow(t, dir+"/images"); n == 0 || n > 3*files.most {
				t.Errorf("%d descriptors with %d files", n, i+1)
			}
			closes(t, r)
		}
	}

	var held []reader
	for i := range treeFileMany {
		held = append(held, files.openNumber(i))
		readsRight(t, held[i], i, data)
		if _, kept := held[i].(*treeFileReader); kept != (i < files.most) {
			t.Errorf("file %d of %d is kept: %v", i+1, files.most, kept)
		}
	}
	if n := openBelow(t, dir+"/images"); n > 3*files.most {
		t.Errorf("%d descriptors with all files open", n)
	}
	for _, r := range held {
		closes(t, r)
	}

	// What was read of them is in the files.
	if err := os.RemoveAll(filepath.Join(filepath.Dir(files.img.src.where), "default.castr")); err != nil {
		t.Fatal(err)
	}
	for i := range treeFileMany {
		r := files.openNumber(i)
		readsRight(t, r, i, data)
		closes(t, r)
	}
}

// A file that the disk takes its time to open keeps nobody waiting but its reader.
func TestTreeFilesSlowDisk(t *testing.T) {
	files, data := filesIn(t, t.TempDir())
	slow := make(chan struct{})
	files.make = func(path string, x *index.Index, opt blockcache.FileOptions) (*blockcache.File, error) {
		if filepath.Base(path) == strconv.Itoa(0) {
			<-slow
		}
		return openCached(path, x, opt)
	}
	waiting := files.openNumber(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waiting.ReadAt(ctx, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("while the file is opened: %v", err)
	}
	other := files.openNumber(1)
	readsRight(t, other, 1, data)
	closes(t, other)
	close(slow)
	readsRight(t, waiting, 0, data)
	closes(t, waiting)
}
