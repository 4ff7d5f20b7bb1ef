package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"caravel/catar/walk"
)

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dir", "file"), bytes.Repeat([]byte("text"), 10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	a := NewFolder(dir, sampleFlags, walk.Options{})
	defer a.Close()
	stream, err := a.Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	data, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Random(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, r, data)

	at, err := EntriesAt(t.Context(), a, "dir")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	var packed bytes.Buffer
	s, err := NewSubtree(&packed, a.Flags)
	if err != nil {
		t.Fatal(err)
	}
	for f, err := range at.All {
		if err == nil {
			err = s.Add(at, f.Node)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if want := sub(t, filepath.Join(dir, "dir")); !bytes.Equal(packed.Bytes(), want) {
		t.Errorf("%d bytes, other than those of the directory by itself, %d", packed.Len(), len(want))
	}
}

// sub is a directory packed by itself.
func sub(t *testing.T, dir string) []byte {
	t.Helper()
	r, err := NewFolder(dir, sampleFlags, walk.Options{}).Stream(t.Context())
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

func TestFolderMissing(t *testing.T) {
	a := NewFolder(filepath.Join(t.TempDir(), "nothing"), sampleFlags, walk.Options{})
	defer a.Close()
	if _, err := EntriesAt(t.Context(), a, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Random(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("here and there: got %v", err)
	}
}
