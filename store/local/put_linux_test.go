package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/storetest"

	"golang.org/x/sys/unix"
)

// Where files need a name from the start, all is as elsewhere.
func TestNamedTemporaries(t *testing.T) {
	for _, opt := range []Options{{}, {Sync: true, Mode: 0o444}} {
		storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
			d := New(filepath.Join(t.TempDir(), "store"), opt)
			d.probe.Do(func() { d.noUnnamed.Store(true) })
			for name, b := range objects {
				if err := d.Put(t.Context(), name, strings.NewReader(string(b)), int64(len(b))); err != nil {
					t.Fatal(err)
				}
			}
			return d
		})
	}
}

func TestFIFOIsNoObject(t *testing.T) {
	d := New(t.TempDir(), Options{})
	if err := unix.Mkfifo(d.Locate("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(t.Context(), "pipe", store.Range{}); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
}

// Folders that somebody removes because they are empty come back.
func TestPutIntoVanishedFolder(t *testing.T) {
	d := New(filepath.Join(t.TempDir(), "store"), Options{})
	for range 2 {
		if err := d.Put(t.Context(), "a/b", strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(d.dir); err != nil {
			t.Fatal(err)
		}
	}
	vanish := readerFunc(func([]byte) (int, error) {
		os.RemoveAll(d.dir)
		return 0, errors.New("end")
	})
	if err := d.Put(t.Context(), "a/b", vanish, -1); err == nil {
		t.Error("an object was made of a reader that failed")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOpenClosesOnce(t *testing.T) {
	d := New(t.TempDir(), Options{})
	if err := d.Put(t.Context(), "x", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	body, _, err := d.Open(t.Context(), "x", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if err := body.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v; the number may be another file's by now", err)
	}
}
