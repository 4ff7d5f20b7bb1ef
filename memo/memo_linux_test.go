package memo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar/walk"
	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/memo"
	"caravel/store"
	"caravel/store/local"
)

const flags = feature.Unix | feature.SHA512_256

// A scene is a directory, a store and a memo of it.
type scene struct {
	dir, castr, path string
	params           chunker.Params
	fills            atomic.Int64 // known chunks that were read
}

// counted counts those of the parts that are read.
func (s *scene) counted(parts iter.Seq2[image.Part, error]) iter.Seq2[image.Part, error] {
	return func(yield func(image.Part, error) bool) {
		for p, err := range parts {
			if p.Known != nil {
				fill := p.Known.Fill
				p.Known.Fill = func() ([]byte, error) {
					s.fills.Add(1)
					return fill()
				}
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

func newScene(t *testing.T, p chunker.Params) *scene {
	t.Helper()
	top := t.TempDir()
	s := &scene{dir: filepath.Join(top, "tree"), castr: filepath.Join(top, "castr"), path: filepath.Join(top, "x.memo"), params: p}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) store(t *testing.T) store.Writer {
	t.Helper()
	w, err := store.Writable(local.New(s.castr, local.Options{}), store.Form{Either: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// plain makes the image without a memo.
func (s *scene) plain(t *testing.T) *image.Made {
	t.Helper()
	r, err := walk.Open(t.Context(), s.dir, flags, walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	made, err := image.Make(t.Context(), r, nil, image.MakeOptions{Params: s.params, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// remembered makes it with one, at a time by whose clock all files are old, or not.
func (s *scene) remembered(t *testing.T, old, digest bool) (*image.Made, *memo.Memo, error) {
	t.Helper()
	now := time.Now()
	if old {
		now = now.Add(time.Hour)
	}
	m, err := memo.Open(s.path, memo.Key{Flags: flags, Params: s.params}, now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := walk.Open(t.Context(), s.dir, flags, walk.Options{Known: m.Known})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	made, err := image.Make(t.Context(), nil, s.store(t), image.MakeOptions{
		Params: s.params, Flags: flags, NoDigest: !digest, Parts: s.counted(m.Parts(t.Context(), r, r.Payloads, digest)), State: m.State,
	})
	if err != nil {
		return nil, m, err
	}
	return made, m, m.Save(t.Context(), s.path, made.Index)
}

// check makes the image both ways, and compares.
func (s *scene) check(t *testing.T, digest bool) *memo.Memo {
	t.Helper()
	want := s.plain(t)
	got, m, err := s.remembered(t, true, digest)
	if err != nil {
		t.Fatal(err)
	}
	if got.Index.Sum() != want.Index.Sum() {
		t.Fatalf("another index: %d chunks, want %d", got.Index.Len(), want.Index.Len())
	}
	if digest && got.Digest != want.Digest {
		t.Fatalf("digest %v, want %v", got.Digest, want.Digest)
	}
	w := s.store(t)
	for i := range want.Index.Len() {
		c := want.Index.Chunk(i)
		got, err := w.Get(t.Context(), store.Want{ID: c.ID, Size: c.Size})
		if err == nil {
			err = got.Verify()
			got.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// edit changes something somewhere in the tree.
func (s *scene) edit(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	name := filepath.Join(s.dir, fmt.Sprintf("d%d", rnd.IntN(4)), fmt.Sprintf("f%02d", rnd.IntN(40)))
	var err error
	switch b := make([]byte, rnd.IntN(1<<rnd.IntN(19))); rnd.IntN(8) {
	case 0:
		err = os.Chmod(name, fs.FileMode(0o600|rnd.IntN(64)))
	case 1:
		err = os.Remove(name)
	case 2:
		err = os.Rename(name, name+"x")
	case 3:
		err = os.Chtimes(name, time.Now(), time.Unix(rnd.Int64N(1e9), 0))
	default:
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = os.WriteFile(name, b, 0o644)
		}
		if err == nil { // on an overlay, a file with one time only is not remembered
			err = os.Chtimes(name, time.Time{}, time.Now().Add(-time.Minute))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestSame edits a tree at random and compares, each time, what is made with a memo with
// what is made without one. Chunks are lost from the store, too.
func TestSame(t *testing.T) {
	for i, p := range []chunker.Params{{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}, chunker.DefaultParams(), {Min: 8 << 10, Avg: 8 << 10, Max: 8 << 10}} {
		t.Run(p.String(), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			s := newScene(t, p)
			for range 60 {
				s.edit(t, rnd)
			}
			reused := 0
			for round := range 12 {
				reused += s.check(t, round%3 != 0).Reused()
				for range rnd.IntN(4) {
					s.edit(t, rnd)
				}
				if round%4 == 3 {
					if err := os.RemoveAll(s.castr); err != nil {
						t.Fatal(err)
					}
				}
			}
			if reused == 0 {
				t.Error("no chunk was ever known")
			}
		})
	}
}

// TestUnchanged checks that nothing is read of a tree that is as it was, digest or not.
func TestUnchanged(t *testing.T) {
	s := newScene(t, chunker.Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10})
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		s.edit(t, rnd)
	}
	if all := s.check(t, false); all.Reused() != 0 {
		t.Errorf("%d chunks known at first", all.Reused())
	}
	// The first digest takes all bytes; after that it goes on from where it was.
	for i, digest := range []bool{true, true, false, true} {
		before := s.fills.Load()
		if m, n := s.check(t, digest), s.plain(t).Index.Len(); m.Reused() != n {
			t.Errorf("digest %v: %d chunks known of %d", digest, m.Reused(), n)
		}
		if n := s.fills.Load() - before; i > 0 && n > 0 {
			t.Errorf("run %d, digest %v: %d chunks were read", i, digest, n)
		}
	}
}

// TestLargest has known chunks wait for the digest where the next one takes all memory that
// chunks may have.
func TestLargest(t *testing.T) {
	s := newScene(t, chunker.Params{Min: 64 << 10, Avg: 128 << 10, Max: 32 << 20})
	b := make([]byte, 1_500_000)
	rand.NewChaCha8([32]byte{1}).Read(b)
	if err := os.WriteFile(filepath.Join(s.dir, "a"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "b"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.dir, "b"), 40<<20); err != nil {
		t.Fatal(err)
	}
	s.check(t, true)
	s.check(t, true)
}

// TestRacy checks that a file is read again whose last change was too near to the run.
func TestRacy(t *testing.T) {
	s := newScene(t, chunker.Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10})
	if err := os.WriteFile(filepath.Join(s.dir, "file"), bytes.Repeat([]byte("x"), 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, m, err := s.remembered(t, false, false)
		if err != nil {
			t.Fatal(err)
		}
		if m.Reused() != 0 {
			t.Errorf("%d chunks known", m.Reused())
		}
	}
}

// TestLie checks that a memo is not believed whose chunks are not what it says, where they are
// read.
func TestLie(t *testing.T) {
	s := newScene(t, chunker.DefaultParams())
	if err := os.WriteFile(filepath.Join(s.dir, "file"), bytes.Repeat([]byte("x"), 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(s.dir, "file"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, m, err := s.remembered(t, true, false)
	if err != nil {
		t.Fatal(err)
	}
	// Another tree of the same shape stands in for the lie.
	other := newScene(t, chunker.DefaultParams())
	if err := os.WriteFile(filepath.Join(other.dir, "file"), bytes.Repeat([]byte("y"), 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(t.Context(), s.path, other.plain(t).Index); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.remembered(t, true, false); !errors.Is(err, image.ErrStale) {
		t.Errorf("got %v", err)
	}
}

// TestOpenRefuses opens what is no memo of ours, without waiting for anything.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("large"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("file", path("link")), unix.Mkfifo(path("fifo"), 0o600), os.Truncate(path("large"), 1<<28)); err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{"file": "damaged", "link": "symbolic", "fifo": "no regular file", "large": "above", ".": "no regular file"}
	if os.Geteuid() == 0 {
		if err := os.WriteFile(path("other"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path("other"), 1234, 1234); err != nil {
			t.Fatal(err)
		}
		wants["other"] = "another user"
	}
	for name, want := range wants {
		if _, err := memo.Open(path(name), memo.Key{Params: chunker.DefaultParams()}, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen opens damaged memos: they are refused, or as good as new.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(nil), 0)
	f.Add([]byte("caravel memo 1\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		path := filepath.Join(t.TempDir(), "x.memo")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := memo.Open(path, memo.Key{Params: chunker.DefaultParams()}, time.Now())
		if m == nil || err == nil && m.Known(walk.File{}) {
			t.Errorf("%v, %v", m, err)
		}
	})
}
