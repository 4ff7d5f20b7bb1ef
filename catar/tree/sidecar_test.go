package tree_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// skimmed is the sidecar of an archive, of the index with the digest 0.
func skimmed(t testing.TB, b []byte) []byte {
	t.Helper()
	s := tree.NewSkimmer()
	if n, err := s.Write(b); n != len(b) || err != nil {
		t.Fatal(n, err)
	}
	file, err := s.Sidecar([32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func readSidecar(t testing.TB, file []byte, size int) *tree.Sidecar {
	t.Helper()
	s, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// known is a tree of src with the sidecar of the archive b.
func known(t testing.TB, b []byte, src catar.Source) *tree.Tree {
	t.Helper()
	return openWith(t, readSidecar(t, skimmed(t, b), len(b)), src, tree.Options{})
}

func openWith(t testing.TB, s *tree.Sidecar, src catar.Source, opt tree.Options) *tree.Tree {
	t.Helper()
	opt.Sidecar = s
	tr, err := tree.Open(t.Context(), src, s.Size(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// completed is a tree that has recorded a whole walk.
func completed(t testing.TB, b []byte) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{Record: true})
	if err == nil {
		err = tr.Complete(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// unread is an archive that nobody reads.
type unread struct{ t testing.TB }

func (u unread) ReadAt(context.Context, []byte, int64) (int, error) {
	u.t.Error("the archive was read")
	return 0, errBroken
}

// everywhere are archives with and without the features of the format.
func everywhere(t *testing.T) map[string][]byte {
	all := archives(t)
	for _, pattern := range []string{"testdata/*.catar", "testdata/desync/*.catar"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			all[filepath.Base(file)] = unpack(t, strings.TrimPrefix(file, "testdata/"))
		}
	}
	for name := range valid {
		all[name] = unpack(t, "malformed/"+name+".catar")
	}
	return all
}

// What was skimmed while the archive was written, however that came, is what a
// walk records.
func TestSidecarBytes(t *testing.T) {
	for name, b := range everywhere(t) {
		t.Run(name, func(t *testing.T) {
			want := skimmed(t, b)
			for _, step := range []int{1, 13, 4096} {
				s := tree.NewSkimmer()
				for part := range slices.Chunk(b, step) {
					if n, err := s.Write(part); n != len(part) || err != nil {
						t.Fatal(n, err)
					}
				}
				if got, err := s.Sidecar([32]byte{}); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("in pieces of %d: %d bytes, not %d; %v", step, len(got), len(want), err)
				}
			}
			got, err := completed(t, b).Sidecar([32]byte{})
			if name == "special.catar" || name == "unsorted.catar" { // these have names without nodes
				if err == nil || !strings.Contains(err.Error(), "a name without a node") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("recorded: %d bytes, not %d; %v", len(got), len(want), err)
			}
		})
	}
}

// Whoever has a sidecar knows what a walk finds out, and reads nothing for it.
func TestKnown(t *testing.T) {
	for name, b := range everywhere(t) {
		t.Run(name, func(t *testing.T) {
			tr, walked := known(t, b, unread{t}), open(t, b)
			if _, err := everything(t.Context(), walked); err != nil {
				t.Fatal(err)
			}
			if !tr.Known() || walked.Known() || tr.Len() != walked.Len() || tr.Flags() != walked.Flags() {
				t.Fatalf("%d entries, not %d; flags %v, not %v", tr.Len(), walked.Len(), tr.Flags(), walked.Flags())
			}
			sameTree(t, tr, walked)
			if err := known(t, b, memory(b)).ConfirmAll(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// sameTree compares all that two trees know of their entries.
func sameTree(t *testing.T, tr, want *tree.Tree) {
	t.Helper()
	for step, err := range want.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		a, err := tr.Find(t.Context(), step.Path)
		if err != nil {
			t.Fatal(err)
		}
		id := a.ID
		if a.ID = step.ID; a != step.Attr || tr.Span(id) != want.Span(step.ID) || tr.Name(id) != want.Name(step.ID) {
			t.Fatalf("%q: %+v, not %+v", step.Path, a, step.Attr)
		}
		got, err1 := tr.Target(t.Context(), id)
		target, err2 := want.Target(t.Context(), step.ID)
		if got != target || (err1 == nil) != (err2 == nil) {
			t.Fatalf("%q: target %q, not %q; %v", step.Path, got, target, err1)
		}
		if !isDir(step.Attr) {
			continue
		}
		list, err := tr.Children(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		all, err := want.Children(t.Context(), step.ID)
		if err != nil || len(list) != len(all) {
			t.Fatalf("%q: %d children, not %d; %v", step.Path, len(list), len(all), err)
		}
		for i, c := range list {
			if c.Name != all[i].Name || tr.Parent(c.ID) != id || c.Attr != tr.Attr(c.ID) {
				t.Fatalf("%q: child %d is %+v, not %+v", step.Path, i, c, all[i])
			}
		}
		if _, err := tr.Lookup(t.Context(), id, "no such name"); err == nil {
			t.Fatalf("%q: found what is not there", step.Path)
		}
	}
}

// A tree with a sidecar of another archive is not opened.
func TestOpenOtherSize(t *testing.T) {
	b := unpack(t, "small.catar")
	_, err := tree.Open(t.Context(), memory(b), int64(len(b))+1, tree.Options{Sidecar: readSidecar(t, skimmed(t, b), len(b))})
	if err == nil || !strings.Contains(err.Error(), "of an archive of 21615 bytes, not 21616") {
		t.Errorf("got %v", err)
	}
}

// Two trees use one sidecar, and what one finds out is no concern of the other.
func TestSidecarShared(t *testing.T) {
	b := unpack(t, "small.catar")
	s := readSidecar(t, skimmed(t, b), len(b))
	bad := bytes.Clone(b)
	bad[16+8]++ // the root's permissions
	one, other := openWith(t, s, memory(bad), tree.Options{}), openWith(t, s, memory(b), tree.Options{})
	if err := one.ConfirmAll(t.Context()); !errors.Is(err, tree.ErrContradicted) {
		t.Errorf("got %v", err)
	}
	if err := other.ConfirmAll(t.Context()); err != nil || !other.Known() || one.Known() {
		t.Errorf("got %v", err)
	}
}

// A skimmer takes whatever comes, and says at the end what was wrong with it.
func TestSkimmerRefuses(t *testing.T) {
	good := unpack(t, "small.catar")
	desync := unpack(t, "desync/unsorted.catar")
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":                   {nil, "of an archive of 0 bytes"},
		"no archive":                {bytes.Repeat([]byte("text"), 1000), "offset 0: no record has the type"},
		"cut":                       {good[:len(good)-1], "bytes that were left out"},
		"cut in a file":             {good[:len(good)/2], "catar: offset"},
		"bytes behind it":           {append(bytes.Clone(good), 1), "offset 21615"},
		"bytes behind desync's":     {append(bytes.Clone(desync), make([]byte, 16)...), "no record has the type"},
		"an archive behind desnc's": {append(bytes.Clone(desync), desync...), "offset 798: the root ends"},
	} {
		s := tree.NewSkimmer()
		for part := range slices.Chunk(tt.b, 100) {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		file, err := s.Sidecar([32]byte{})
		if file != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// Without Record there is nothing to make a sidecar of; nor before all is known.
func TestSidecarTooEarly(t *testing.T) {
	b := unpack(t, "small.catar")
	if _, err := open(t, b).Sidecar([32]byte{}); err == nil || !strings.Contains(err.Error(), "no records were kept") {
		t.Errorf("got %v", err)
	}
	tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{Record: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Sidecar([32]byte{}); err == nil || !strings.Contains(err.Error(), "the root was not listed") {
		t.Errorf("got %v", err)
	}
}

// Entries that were looked up singly, before all were read, are recorded too.
func TestRecordSingly(t *testing.T) {
	b := unpack(t, "tree.default.catar")
	tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{Record: true})
	if err != nil {
		t.Fatal(err)
	}
	singly(t, tr, open(t, b))
	if err := tr.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := tr.Sidecar([32]byte{})
	if err != nil || !bytes.Equal(got, skimmed(t, b)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
