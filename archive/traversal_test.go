package archive

import (
	"context"
	"path"
	"strings"

	"bytes"
	"caravel/catar"
	"slices"
	"testing"

	"caravel/catar/tree"
)

// TestTraversal lists directories in several orders and sees what is fetched
// ahead of them.
func TestTraversal(t *testing.T) {
	dirs := []string{"a", "a/b", "a/b/c", "a/b/d", "a/b/e", "a/f", "g", "g/h", "i", "j"}
	for _, tt := range []struct {
		name   string
		listed []string
		want   []string
	}{
		{"all, as find does", []string{"", "a", "a/b", "a/b/c", "a/b/d", "a/b/e", "a/f", "g", "g/h", "i", "j"}, []string{""}},
		{"a part", []string{"a/b", "a/b/c", "a/b/d", "a/b/e", "g"}, []string{"a/b"}},
		{"siblings", []string{"", "g", "i", "j"}, []string{""}},
		{"here and there", []string{"a/b/c", "g/h", "a/b", "i", "g", "a/f"}, nil},
		{"the same again and again", []string{"", "a", "", "a", "", "a"}, nil},
		{"looked around before", []string{"", "a", "a/b/c", "a/b", "a/b/d", "a/b/e", "a/b/c"}, []string{"a/b"}},
		{"a part, then all", []string{"a/b", "a/b/c", "a/b/d", "a/b/e", "", "a", "g", "i"}, []string{"a/b", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := folders(t, dirs...)
			tr, err := tree.Open(t.Context(), inMemory{bytes.NewReader(b)}, int64(len(b)), tree.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			watched := NewTraversal(tr, func(dir tree.ID) { got = append(got, pathOf(tr, dir)) })
			for _, path := range tt.listed {
				a, err := tr.Find(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := watched.Children(t.Context(), a.ID); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("fetched ahead: %q, want %q", got, tt.want)
			}
		})
	}
}

// folders is an archive of directories, which are named in its order.
func folders(t *testing.T, dirs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, sampleFlags)
	dir := catar.Entry{Mode: catar.ModeDir | 0o755}
	open := []string{""}
	if err == nil {
		err = e.Begin("", &dir)
	}
	for _, d := range dirs {
		for ; err == nil && open[len(open)-1] != strings.TrimPrefix(path.Dir(d), "."); open = open[:len(open)-1] {
			err = e.End()
		}
		if err == nil {
			err = e.Begin(path.Base(d), &dir)
		}
		open = append(open, d)
	}
	for range open {
		if err == nil {
			err = e.End()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pathOf is where an entry is.
func pathOf(t *tree.Tree, id tree.ID) string {
	if id == tree.Root {
		return ""
	}
	return path.Join(pathOf(t, t.Parent(id)), t.Name(id))
}

type inMemory struct{ *bytes.Reader }

func (m inMemory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return m.Reader.ReadAt(p, off)
}
