package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"caravel/catalog"
	"caravel/store"
)

// TestKeepFound: of an index on this machine, what was supplied is known the next
// time, under another name too; but not of another index, and not if there is a file
// beside it.
func TestKeepFound(t *testing.T) {
	disk, err := diskAt(t, t.TempDir())()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open := func(name string) *catalog.Image {
		img, err := catalog.Open(t.Context(), filepath.Join(dir, name), catalog.Options{Sides: []string{".tree", ".profile"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { img.Close() })
		img.KeepFound(disk)
		return img
	}
	has := func(when, name, want string, right bool) {
		t.Helper()
		img := open(name)
		got, err := img.Side(t.Context(), ".tree")
		if string(got) != want || (want == "") != errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: %q, %v, want %q", when, got, err, want)
		}
		if img.Confirmed(".tree") != right {
			t.Errorf("%s: it is right: %v, want %v", when, !right, right)
		}
		if got, err := img.Side(t.Context(), ".profile"); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: what nobody supplied: %q, %v", when, got, err)
		}
	}
	_, file := indexOf(t, 3, 10)
	_, other := indexOf(t, 4, 10)
	put("a.caidx", file)
	has("at first", "a.caidx", "", false)

	img := open("a.caidx")
	if _, err := img.Side(t.Context(), ".tree"); !errors.Is(err, store.ErrMissing) {
		t.Error(err)
	}
	img.Supply(".tree", []byte("built"))
	has("supplied", "a.caidx", "built", false)
	img.Confirm(".tree")
	has("confirmed", "a.caidx", "built", true)
	put("copy.caidx", file)
	has("a copy", "copy.caidx", "built", true)
	put("other.caidx", other)
	has("another", "other.caidx", "", false)

	put("copy.caidx.tree", []byte("beside"))
	has("a file beside it", "copy.caidx", "beside", false)
	img = open("copy.caidx")
	if _, err := img.Side(t.Context(), ".tree"); err != nil {
		t.Error(err)
	}
	img.Confirm(".tree")
	has("that confirmed", "copy.caidx", "beside", true)
	has("and the one supplied", "a.caidx", "built", false)

	img = open("a.caidx")
	img.Drop(".tree")
	if got, err := img.Side(t.Context(), ".tree"); !errors.Is(err, store.ErrMissing) {
		t.Errorf("dropped: %q, %v", got, err)
	}
	has("dropped before", "a.caidx", "", false)
	put("a.caidx", other)
	has("replaced", "a.caidx", "", false)
}
