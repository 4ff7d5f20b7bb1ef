package tree_test

import (
	"fmt"
	"runtime"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// perEntry is how many bytes a tree keeps for each entry after a walk.
func perEntry(t *testing.T, src catar.Source, size int64, listed bool) (bytes, entries int) {
	t.Helper()
	before := heapInUse()
	tr, err := tree.Open(t.Context(), src, size, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if listed {
		for _, err := range tr.Walk(t.Context(), tree.Root, -1) {
			if err != nil {
				t.Fatal(err)
			}
		}
	} else {
		whole, err := tree.Open(t.Context(), src, size, tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		singly(t, tr, whole)
	}
	used := heapInUse() - before
	n := tr.Len()
	runtime.KeepAlive(src)
	return int(used) / n, n
}

// perKnown is how many bytes a tree with a sidecar keeps for each entry, when all
// was confirmed.
func perKnown(t *testing.T, b []byte) int {
	t.Helper()
	file := skimmed(t, b)
	before := heapInUse()
	tr := openWith(t, readSidecar(t, file, len(b)), memory(b), tree.Options{})
	if err := tr.ConfirmAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	used := heapInUse() - before
	n := tr.Len()
	runtime.KeepAlive(file)
	return int(used) / n
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what pools keep goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// singly looks up every entry of a tree by its name, without a listing.
func singly(t *testing.T, tr, whole *tree.Tree) {
	ids := make(map[tree.ID]tree.ID)
	for step, err := range whole.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		if step.ID == tree.Root {
			ids[tree.Root] = tree.Root
			continue
		}
		a, err := tr.Lookup(t.Context(), ids[whole.Parent(step.ID)], whole.Name(step.ID))
		if err != nil {
			t.Fatal(err)
		}
		ids[step.ID] = a.ID
	}
}

// An entry takes 250 bytes at most, its name included, whatever it is.
func TestMemory(t *testing.T) {
	if raced {
		t.Skip("memory is measured without the race detector, which make unit does")
	}
	tests := []struct {
		name   string
		most   int  // if they are listed
		singly bool // whether they are looked up as well
		make   func(m *maker)
	}{
		{"files in directories of 50", 100, false, func(m *maker) {
			for i := range 2000 {
				m.dir(fmt.Sprintf("directory-%04d", i))
				for j := range 50 {
					m.file(fmt.Sprintf("some-file-%02d", j), 3)
				}
				m.end()
			}
		}},
		{"one directory", 100, true, func(m *maker) {
			for i := range 50_000 {
				m.file(fmt.Sprintf("some-file-%06d", i), 0)
			}
		}},
		{"empty directories", 200, false, func(m *maker) {
			for i := range 30_000 {
				m.dir(fmt.Sprintf("directory-%06d", i))
				m.end()
			}
		}},
		{"directories of one", 250, true, func(m *maker) {
			for i := range 15_000 {
				m.dir(fmt.Sprintf("directory-%06d", i))
				m.file("file", 3)
				m.end()
			}
		}},
		{"links", 120, false, func(m *maker) {
			for i := range 30_000 {
				m.link(fmt.Sprintf("link-%06d", i), "../some/where/else")
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMaker(t, flags)
			tt.make(m)
			b := m.bytes()
			got, n := perEntry(t, memory(b), int64(len(b)), true)
			t.Logf("%d bytes for each of %d entries", got, n)
			if got > tt.most {
				t.Errorf("%d bytes an entry, want at most %d", got, tt.most)
			}
			got = perKnown(t, b)
			t.Logf("%d bytes for each with a sidecar", got)
			if got > 250 {
				t.Errorf("%d bytes an entry with a sidecar, want at most 250", got)
			}
			if !tt.singly {
				return
			}
			got, n = perEntry(t, memory(b), int64(len(b)), false)
			t.Logf("%d bytes for each of %d entries, looked up singly", got, n)
			if got > 250 {
				t.Errorf("%d bytes an entry, want at most 250", got)
			}
		})
	}
}

// TestMemoryGo says what the tree of the Go distribution takes.
func TestMemoryGo(t *testing.T) {
	if raced {
		t.Skip("memory is measured without the race detector, which make unit does")
	}
	file, size := distribution(t)
	got, n := perEntry(t, onDisk{file}, size, true)
	t.Logf("%d bytes for each of %d entries", got, n)
	if got > 120 {
		t.Errorf("%d bytes an entry", got)
	}
}
