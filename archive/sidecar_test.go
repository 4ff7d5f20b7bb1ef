package archive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"caravel/blockcache"
	"caravel/catar"
	"caravel/catar/tree"
	"caravel/index"
	"caravel/store"
	"caravel/store/open"
)

// skimmed is the sidecar of what an index describes, made of an archive, which
// should be that.
func skimmed(t *testing.T, x *index.Index, data []byte) []byte {
	t.Helper()
	s := tree.NewSkimmer()
	s.Write(data)
	file, err := s.Sidecar(x.Sum())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func readSidecar(t *testing.T, x *index.Index, file []byte) *tree.Sidecar {
	t.Helper()
	s, err := tree.ReadSidecar(bytes.NewReader(file), x.Sum(), x.Size())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withSidecar is how an archive with a sidecar is opened.
func withSidecar(t *testing.T, x *index.Index, data []byte) IndexedOptions {
	s := readSidecar(t, x, skimmed(t, x, data))
	return IndexedOptions{Sidecar: func(context.Context) *tree.Sidecar { return s }}
}

// An archive without a sidecar gives one to whoever wants it, when all of it was
// read; with that all is known at once.
func TestComplete(t *testing.T) {
	data := sample(t, 0o755)
	var built [][]byte
	var x *index.Index
	a := indexed(t, data, func(of *index.Index) IndexedOptions {
		x = of
		return IndexedOptions{Built: func(file []byte) { built = append(built, file) }}
	})
	defer a.Close()
	r, err := a.Random(t.Context())
	if err != nil || r.Known() {
		t.Fatal(err)
	}
	if err := r.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(built) != 1 || !bytes.Equal(built[0], skimmed(t, x, data)) {
		t.Fatalf("built %d sidecars, or another one", len(built))
	}

	s := readSidecar(t, x, built[0])
	a.opt.Sidecar = func(context.Context) *tree.Sidecar { return s }
	if r, err = a.Random(t.Context()); err != nil || !r.Known() || r.Len() != 4 {
		t.Fatal(err)
	}
	if err := r.Complete(t.Context()); err != nil || !r.Known() || len(built) != 1 {
		t.Errorf("built %d, %v", len(built), err)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	a.opt.Sidecar = nil
	if r, err = a.Random(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Complete(gone); !errors.Is(err, context.Canceled) || len(built) != 1 {
		t.Errorf("built %d, %v", len(built), err)
	}
}

// A sidecar that the archive contradicts decides nothing about what is read of
// the archive.
func TestFalseSidecar(t *testing.T) {
	data := sample(t, 0o755)
	var dropped []error
	a := indexed(t, data, func(x *index.Index) IndexedOptions {
		opt := withSidecar(t, x, sample(t, 0o4755))
		opt.Dropped = func(err error) { dropped = append(dropped, err) }
		opt.Built = func([]byte) { t.Error("built a sidecar where there is one") }
		return opt
	})
	defer a.Close()
	for name, read := range map[string]func(r *Random, id tree.ID) error{
		"Stat": func(r *Random, id tree.ID) error {
			_, err := r.Stat(t.Context(), id)
			return err
		},
		"Decode": func(r *Random, id tree.ID) error {
			_, _, err := r.Decode(t.Context(), id)
			return err
		},
		"EntriesAt": func(*Random, tree.ID) error {
			_, err := EntriesAt(t.Context(), a, "dir/file")
			return err
		},
		"Complete": func(r *Random, _ tree.ID) error { return r.Complete(t.Context()) },
	} {
		dropped = nil
		r, err := a.Random(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at, err := r.Find(t.Context(), "dir/file")
		if err != nil || at.Mode != 0o104755 {
			t.Fatal(at.Mode, err)
		}
		if err := read(r, at.ID); !errors.Is(err, tree.ErrContradicted) || len(dropped) != 1 || !errors.Is(dropped[0], tree.ErrContradicted) {
			t.Errorf("%s: got %v, dropped since %v", name, err, dropped)
		}
	}
	r, err := a.Random(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, err := r.Find(t.Context(), "link"); err != nil {
		t.Error(err)
	} else if _, err := r.Stat(t.Context(), at.ID); err != nil { // nobody has said a word against that one
		t.Error(err)
	}
}

// A sidecar of another image is not used, and that is said.
func TestForeignSidecar(t *testing.T) {
	data := sample(t, 0o755)
	var dropped []error
	a := indexed(t, data, func(*index.Index) IndexedOptions {
		var b bytes.Buffer
		small, err := NewSubtree(&b, sampleFlags)
		if err == nil {
			err = small.Add(nil, &catar.Node{Entry: catar.Entry{Mode: catar.ModeDir | 0o755}})
		}
		if err = errors.Join(err, small.Close()); err != nil {
			t.Fatal(err)
		}
		s := tree.NewSkimmer()
		s.Write(b.Bytes())
		file, err := s.Sidecar([32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		other, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		return IndexedOptions{
			Sidecar: func(context.Context) *tree.Sidecar { return other },
			Dropped: func(err error) { dropped = append(dropped, err) },
		}
	})
	defer a.Close()
	r, err := a.Random(t.Context())
	if err != nil || r.Known() || len(dropped) != 1 {
		t.Fatalf("dropped since %v, %v", dropped, err)
	}
	checkFile(t, r, data)
}

// classes count what is asked for on whose behalf.
type classes struct {
	store.Store
	mu   sync.Mutex // guards seen
	seen [store.Classes]int
}

func (c *classes) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	c.mu.Lock()
	c.seen[want.Class]++
	c.mu.Unlock()
	return c.Store.Get(ctx, want)
}

// take returns what was asked for since the last time.
func (c *classes) take() [store.Classes]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = [store.Classes]int{}
	return seen
}

// With a sidecar nothing is fetched to know all entries; and nobody waits for
// what is fetched to complete them, with one or without.
func TestFetchedFor(t *testing.T) {
	data := sample(t, 0o755)
	for _, known := range []bool{true, false} {
		var x *index.Index
		a := indexed(t, data, func(of *index.Index) (opt IndexedOptions) {
			if x = of; known {
				opt = withSidecar(t, x, data)
			}
			return opt
		})
		c := &classes{Store: a.store}
		a.begin = func() Image { return blockcache.New(x, c, blockcache.Options{}) }
		r, err := a.Random(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if known {
			for _, err := range r.Walk(t.Context(), tree.Root, -1) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if seen := c.take(); known && seen != [store.Classes]int{} {
			t.Errorf("fetched to know what is known: %v", seen)
		}
		if err := r.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if seen := c.take(); seen[store.Walk] == 0 || seen[store.Demand] > 0 {
			t.Errorf("with a sidecar %v: fetched by class %v", known, seen)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An image of casync's, which has no sidecar, gets one.
func TestSidecarOfCasync(t *testing.T) {
	casync, err := exec.LookPath("casync")
	if err != nil {
		t.Skip("casync is not installed")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.CopyFS(src, os.DirFS(filepath.Join("..", "catar"))); err != nil {
		t.Fatal(err)
	}
	where := filepath.Join(dir, "x.caidx")
	if out, err := exec.Command(casync, "make", where, src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := os.ReadFile(where)
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := open.Writer(filepath.Join(dir, "default.castr"), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var built []byte
	a := NewIndexed(x, s, func() Image { return blockcache.New(x, s, blockcache.Options{}) }, IndexedOptions{
		Built: func(file []byte) { built = file },
	})
	defer a.Close()
	r, err := a.Random(t.Context())
	if err == nil {
		err = r.Complete(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	sidecar := readSidecar(t, x, built)
	a.opt.Sidecar = func(context.Context) *tree.Sidecar { return sidecar }
	known, err := a.Random(t.Context())
	if err == nil {
		err = known.Complete(t.Context())
	}
	if err != nil || known.Len() != r.Len() || r.Len() < 100 {
		t.Fatalf("%d entries, not %d; %v", known.Len(), r.Len(), err)
	}
	for step, err := range r.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		got, err := known.Find(t.Context(), step.Path)
		if got.ID = step.ID; err != nil || got != step.Attr {
			t.Errorf("%q: %+v, not %+v; %v", step.Path, got, step.Attr, err)
		}
	}
}
