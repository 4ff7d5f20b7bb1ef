package tree_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// A sidecar that takes what a file contains for an entry, or for a directory with
// its children and its table, has these records on its side, and not the tables
// above them.
func TestForgedEntry(t *testing.T) {
	set := catar.Entry{Mode: syscall.S_IFREG | 0o4755, Size: 30}
	program := func(m *maker) {
		m.begin("sh", set)
		if _, err := m.e.Write(make([]byte, set.Size)); err != nil {
			t.Fatal(err)
		}
	}
	for path, forge := range map[string]func(m *maker){
		"sh": program,
		"bin/sh": func(m *maker) {
			m.dir("bin")
			program(m)
			m.end()
		},
	} {
		t.Run(path, func(t *testing.T) { forged(t, path, forge) })
	}
}

func forged(t *testing.T, path string, forge func(m *maker)) {
	lie := newMaker(t, flags)
	lie.file("a", 10)
	at := lie.e.Offset()
	forge(lie)
	until := lie.e.Offset()
	lie.dir("z")
	lie.end()
	said := lie.bytes()

	// In truth the file a goes on with what looks like the others, and is as much
	// longer as the table is shorter.
	inside := append(bytes.Repeat([]byte{'x'}, 10), said[at:until]...)
	inside = append(inside, make([]byte, 24)...)
	truth := newMaker(t, flags)
	truth.begin("a", catar.Entry{Mode: syscall.S_IFREG | 0o644, UID: 1000, GID: 100, MTime: 1e18 + 10, Size: int64(len(inside))})
	if _, err := truth.e.Write(inside); err != nil {
		t.Fatal(err)
	}
	truth.dir("z")
	truth.end()
	real := truth.bytes()
	if len(real) != len(said) {
		t.Fatalf("%d bytes, not %d", len(real), len(said))
	}
	tr, _ := dropping(t, readSidecar(t, skimmed(t, said), len(said)), memory(real))
	a, err := tr.Find(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Confirm(t.Context(), a.ID); err != nil {
		t.Errorf("its own records: %v", err)
	}
	if err := tr.ConfirmPath(t.Context(), a.ID); !errors.Is(err, tree.ErrContradicted) {
		t.Errorf("got %v", err)
	}
	if err := tr.Confirm(t.Context(), a.ID); !errors.Is(err, tree.ErrContradicted) {
		t.Errorf("then %v", err)
	}
	believedIsTrue(t, tr, real)
}
