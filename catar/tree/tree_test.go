package tree_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// archives are those that the tree is compared with the decoder on.
func archives(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"tree":         unpack(t, "tree.default.catar"),
		"small":        unpack(t, "small.catar"),
		"many":         unpack(t, "many.catar.gz"),
		"wide":         wide(t, 3000),
		"deep":         deep(t, catar.MaxDepth-2, 900),
		"deep and fat": deep(t, 9, 70_000),
		"empty":        newMaker(t, flags).bytes(),
	}
}

// The walk sees what the decoder sees, in its order; so does who has a sidecar.
func TestWalkDecoder(t *testing.T) {
	for name, b := range archives(t) {
		t.Run(name, func(t *testing.T) {
			likeDecoder(t, b)
			if tr := open(t, b); tr.Size() != int64(len(b)) {
				t.Errorf("size %d of %d", tr.Size(), len(b))
			}
		})
	}
}

func likeDecoder(t *testing.T, b []byte) {
	t.Helper()
	seesAll(t, open(t, b), b)
	seesAll(t, known(t, b, memory(b)), b)
	if got, err := completed(t, b).Sidecar([32]byte{}); err != nil || !bytes.Equal(got, skimmed(t, b)) {
		t.Errorf("a walk records a sidecar of %d bytes, %v", len(got), err)
	}
}

// seesAll compares a tree of the archive b with what the decoder sees.
func seesAll(t *testing.T, tr *tree.Tree, b []byte) {
	t.Helper()
	dec := catar.NewDecoder(bytes.NewReader(b), catar.DecoderOptions{})
	var path []string
	for step, err := range tr.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		n, err := dec.Next()
		if err != nil {
			t.Fatalf("behind %q: %v", step.Path, err)
		}
		if n.Depth > 0 {
			path = append(path[:n.Depth-1], n.Name)
		}
		if want := strings.Join(path, "/"); step.Path != want {
			t.Fatalf("at %q, the decoder at %q", step.Path, want)
		}
		compare(t, tr, step, n, dec)
	}
	if _, err := dec.Next(); err != io.EOF || tr.Flags() != dec.Flags() {
		t.Errorf("flags %v; the walk ended, the decoder has %v and flags %v", tr.Flags(), err, dec.Flags())
	}
}

// compare compares all that the tree says of an entry with the decoder's node.
func compare(t *testing.T, tr *tree.Tree, step tree.Step, n *catar.Node, dec *catar.Decoder) {
	t.Helper()
	got, err := tr.Entry(t.Context(), step.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, n) {
		t.Fatalf("%q: entry\n%+v, the decoder's\n%+v", step.Path, got, n)
	}
	want := tree.Attr{
		ID: step.ID, Ino: uint64(n.Head) + 1, Mode: n.Mode, UID: n.UID, GID: n.GID,
		MTime: n.MTime, Size: n.Size, Major: n.Major, Minor: n.Minor,
		XAttrs: n.XAttrs != nil || n.ACL != nil || n.SELinux != "" || n.FCaps != nil,
	}
	want.Plain = !want.XAttrs && n.User == "" && n.Group == "" && n.Flags == 0 && n.ProjID == 0
	if n.IsSymlink() {
		want.Size = int64(len(n.Target))
	}
	if step.Attr != want || tr.Attr(step.ID) != want {
		t.Fatalf("%q: %+v, want %+v", step.Path, step.Attr, want)
	}
	if found, err := tr.Find(t.Context(), "/"+step.Path); err != nil || found != want {
		t.Fatalf("find %q: %+v, %v", step.Path, found, err)
	}
	if tr.Name(step.ID) != n.Name || tr.Span(step.ID).Start != n.Head {
		t.Fatalf("%q: name %q, span %v", step.Path, tr.Name(step.ID), tr.Span(step.ID))
	}
	target, err := tr.Target(t.Context(), step.ID)
	if n.IsSymlink() && (err != nil || target != n.Target) || !n.IsSymlink() && !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("%q: target %q, %v", step.Path, target, err)
	}
	off, size := tr.Payload(step.ID)
	if n.IsRegular() && (off != n.Body || size != n.Size) || !n.IsRegular() && (off != 0 || size != 0) {
		t.Fatalf("%q: payload at %d, %d bytes", step.Path, off, size)
	}
	if n.IsRegular() && n.Size > 0 && dec.Offset() != n.Body {
		t.Fatalf("%q: the decoder is at %d", step.Path, dec.Offset())
	}
}

// Whatever is looked up first, the ids and attributes are the same afterwards.
func TestLookupBeforeChildren(t *testing.T) {
	b := wide(t, 100)
	whole := open(t, b)
	if _, err := everything(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for step, err := range whole.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		tr := open(t, b)
		first, err := tr.Find(t.Context(), step.Path)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := tr.Find(t.Context(), step.Path); err != nil || again != first {
			t.Fatalf("%q: %+v, then %+v, %v", step.Path, first, again, err)
		}
		paths, err := everything(t.Context(), tr)
		if err != nil || len(paths) != whole.Len() || tr.Len() != whole.Len() {
			t.Fatalf("behind %q: %d paths of %d, %v", step.Path, len(paths), whole.Len(), err)
		}
		if again, err := tr.Find(t.Context(), step.Path); err != nil || again != first {
			t.Fatalf("%q: %+v, at the end %+v, %v", step.Path, first, again, err)
		}
		step.ID = first.ID
		if first != step.Attr {
			t.Fatalf("%q: %+v, want %+v", step.Path, first, step.Attr)
		}
	}
}

func TestNotThere(t *testing.T) {
	for _, warm := range []bool{false, true} {
		tr := open(t, wide(t, 10))
		if warm {
			if _, err := everything(t.Context(), tr); err != nil {
				t.Fatal(err)
			}
		}
		tests := []struct {
			path string
			want error
			text string
		}{
			{"no", fs.ErrNotExist, `tree: no entry "no"`},
			{"d/no", fs.ErrNotExist, `tree: no entry "d/no"`},
			{"no/d", fs.ErrNotExist, `tree: no entry "no/d"`},
			{"d/..", fs.ErrNotExist, `tree: no entry "d/.."`},
			{"d/file-0000010", fs.ErrNotExist, `tree: no entry "d/file-0000010"`},
			{"0/no", syscall.ENOTDIR, `tree: entry "0/no": not a directory`},
			{"l/no", syscall.ENOTDIR, `tree: entry "l/no": not a directory`},
		}
		for _, tt := range tests {
			_, err := tr.Find(t.Context(), tt.path)
			if !errors.Is(err, tt.want) || err.Error() != tt.text {
				t.Errorf("warm %v, %q: got %v, want %q", warm, tt.path, err, tt.text)
			}
		}
		file, err := tr.Find(t.Context(), "./0/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Children(t.Context(), file.ID); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("children of a file: %v", err)
		}
		for _, id := range []tree.ID{0, tree.ID(tr.Len()) + 1, 1 << 31} {
			_, err1 := tr.Lookup(t.Context(), id, "d")
			_, err2 := tr.Children(t.Context(), id)
			_, err3 := tr.Entry(t.Context(), id)
			_, err4 := tr.Target(t.Context(), id)
			var err5 error
			for _, err5 = range tr.Walk(t.Context(), id, -1) {
			}
			for _, err := range []error{err1, err2, err3, err4, err5} {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("id %d: %v", id, err)
				}
			}
			if off, n := tr.Payload(id); tr.Attr(id) != (tree.Attr{}) || off != 0 || n != 0 || tr.Span(id) != (catar.Span{}) {
				t.Errorf("id %d: there is something", id)
			}
		}
	}
}

func TestWalkDepth(t *testing.T) {
	tr := open(t, deep(t, 3, 10))
	d, err := tr.Find(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		id    tree.ID
		depth int
		want  string
	}{
		{tree.Root, 0, ""},
		{tree.Root, 1, ",a,d,z"},
		{tree.Root, 2, ",a,d,d/a,d/d,d/z,z"},
		{d.ID, 0, ""},
		{d.ID, 1, ",a,d,z"},
		{d.ID, -1, ",a,d,d/a,d/d,d/d/b,d/z,z"},
		{tr.Attr(tree.Root).ID, -7, ",a,d,d/a,d/d,d/d/a,d/d/d,d/d/d/b,d/d/z,d/z,z"},
	}
	for _, tt := range tests {
		var got []string
		for step, err := range tr.Walk(t.Context(), tt.id, tt.depth) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, step.Path)
		}
		if s := strings.Join(got, ","); s != tt.want {
			t.Errorf("%d levels below %d: %q, want %q", tt.depth, tt.id, s, tt.want)
		}
	}
}

func TestOpenOptions(t *testing.T) {
	b := newMaker(t, flags).bytes()
	if _, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{InFlight: -1}); err == nil {
		t.Error("-1 reads in flight were accepted")
	}
	for _, size := range []int64{-1, 0, 103, int64(len(b)) - 1, int64(len(b)) + 1, 1 << 62} {
		if _, err := tree.Open(t.Context(), memory(b), size, tree.Options{}); err == nil {
			t.Errorf("%d bytes opened as %d", len(b), size)
		}
	}
	if f := open(t, b).Flags(); f != flags.Normal() || f&feature.XAttrs == 0 {
		t.Errorf("flags %v", f)
	}
}
