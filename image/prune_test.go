package image_test

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/image"
	"caravel/index"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/storetest"
)

// stored makes an image of random bytes in a store.
func stored(t *testing.T, dir string, seed byte, opt local.Options) *index.Index {
	t.Helper()
	data := make([]byte, 40_000)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	w, err := store.Writable(local.New(dir, opt), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := image.Make(t.Context(), bytes.NewReader(data), w, image.MakeOptions{Params: small})
	if err != nil {
		t.Fatal(err)
	}
	return made.Index
}

// aged makes all files below a folder so old.
func aged(t *testing.T, dir string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chtimes(path, then, then)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// whole checks that all chunks of an image are in a store.
func whole(t *testing.T, dir string, x *index.Index) {
	t.Helper()
	var out bytes.Buffer
	s := store.Verify(store.Chunks(local.New(dir, local.Options{}), store.Form{}))
	if err := image.Stream(t.Context(), x, s, &out, 0, x.Size(), image.StreamOptions{}); err != nil {
		t.Errorf("not whole any more: %v", err)
	}
}

func files(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	kept, gone := stored(t, dir, 1, local.Options{}), stored(t, dir, 2, local.Options{})
	foreign, unfinished := filepath.Join(dir, "README"), filepath.Join(dir, "abcd", store.UnfinishedName("x"))
	if err := os.MkdirAll(filepath.Dir(unfinished), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{foreign, unfinished, filepath.Join(dir, ".tmp-cacnk123")} {
		if err := os.WriteFile(path, []byte("something"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	aged(t, dir, 25*time.Hour)
	young := stored(t, dir, 3, local.Options{})
	var roots image.Roots
	roots.Add(kept)
	roots.Add(kept)
	all := files(t, dir)
	run := func(opt image.PruneOptions) (image.Pruned, []string) {
		t.Helper()
		var names []string
		opt.Removed = func(name string, _ int64) { names = append(names, name) }
		got, err := image.Prune(t.Context(), local.New(dir, local.Options{}), &roots, opt)
		if err != nil {
			t.Fatal(err)
		}
		if int(got.Removed) != len(names) {
			t.Errorf("%+v, and %d names", got, len(names))
		}
		return got, names
	}
	want := int64(distinct(gone) + 2) // and what is unfinished
	if got, _ := run(image.PruneOptions{DryRun: true}); got.Removed != want || files(t, dir) != all {
		t.Errorf("dry: %+v, want %d removed; %d files of %d", got, want, files(t, dir), all)
	}
	got, _ := run(image.PruneOptions{})
	if got.Removed != want || got.Kept != int64(distinct(kept)) || got.Young != int64(distinct(young)) || got.Bytes == 0 {
		t.Errorf("%+v, want %d removed", got, want)
	}
	whole(t, dir, kept)
	whole(t, dir, young)
	if got, _ := run(image.PruneOptions{Age: -1}); got.Removed != int64(distinct(young)) || got.Young != 0 {
		t.Errorf("of any age: %+v", got)
	}
	whole(t, dir, kept)
	if n := files(t, dir); n != distinct(kept)+1 {
		t.Errorf("%d files are left, want %d and README", n, distinct(kept))
	}
	if folders, _ := os.ReadDir(dir); len(folders) > distinct(kept)+1 {
		t.Errorf("%d folders are left", len(folders))
	}
	if _, err := image.Prune(t.Context(), storetest.NewMemory(nil), &roots, image.PruneOptions{}); err != nil && !strings.Contains(err.Error(), "removed") {
		t.Error(err)
	}
}

func distinct(x *index.Index) int {
	all := map[[32]byte]bool{}
	for i := range x.Len() {
		all[x.Chunk(i).ID] = true
	}
	return len(all)
}

// Who finds a chunk there while others prune has it when they are done, however old it
// is.
func TestPruneBesideMakers(t *testing.T) {
	dir := t.TempDir()
	opt := local.Options{Renew: time.Hour}
	for round := range 20 {
		stored(t, dir, 1, opt)
		aged(t, dir, 48*time.Hour)
		var both sync.WaitGroup
		var x *index.Index
		both.Go(func() { x = stored(t, dir, 1, opt) })
		both.Go(func() {
			if _, err := image.Prune(t.Context(), local.New(dir, local.Options{}), &image.Roots{}, image.PruneOptions{}); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
		both.Wait()
		whole(t, dir, x)
	}
}
