package tree_test

import (
	"testing"

	"caravel/catar/tree"
)

// TestDirs counts the directories in directories, as soon as all in them are known.
func TestDirs(t *testing.T) {
	m := newMaker(t, flags)
	m.dir("a")
	m.dir("b")
	m.end()
	m.file("c", 10)
	m.dir("d")
	m.end()
	m.end()
	m.dir("e")
	m.end()
	m.file("f", 2000)
	a := m.bytes()
	read := openSource(t, memory(a), len(a))
	if n := read.Dirs(tree.Root); n != -1 {
		t.Errorf("of what nobody has read yet: %d", n)
	}
	for _, err := range read.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
	}
	hinted := openWith(t, readSidecar(t, skimmed(t, a), len(a)), memory(a), tree.Options{})
	for how, tr := range map[string]*tree.Tree{"read": read, "from a sidecar": hinted} {
		for path, want := range map[string]int{"": 2, "a": 2, "a/b": 0, "a/c": -1, "a/d": 0, "e": 0, "f": -1} {
			at, err := tr.Find(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if n := tr.Dirs(at.ID); n != want {
					t.Errorf("%s: %q: %d, want %d", how, path, n, want)
				}
			}
		}
		if n := tr.Dirs(4711); n != -1 {
			t.Errorf("of an entry that there is not: %d", n)
		}
	}
}
