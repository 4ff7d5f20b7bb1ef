package tree_test

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// An entry that was given out before the sidecar was dropped, the root too, is
// not walked from on its word.
func TestDoubtedStart(t *testing.T) {
	for path, lie := range map[string][]byte{
		"":    spoiled(t, 64-8), // the root's time
		"dir": sorts(t, one("dir", func(e *catar.Entry) { e.MTime = 1 })),
	} {
		truth := sorts(t, nil)
		tr, _ := dropping(t, readSidecar(t, skimmed(t, lie), len(lie)), memory(truth))
		a, err := tr.Find(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.ConfirmAll(t.Context()); !errors.Is(err, tree.ErrContradicted) {
			t.Fatal(err)
		}
		if _, err := tr.Find(t.Context(), path); !errors.Is(err, tree.ErrContradicted) {
			t.Errorf("found %q: %v", path, err)
		}
		for step, err := range tr.Walk(t.Context(), a.ID, 0) {
			if !errors.Is(err, tree.ErrContradicted) {
				t.Errorf("walked from %q: %+v, %v", path, step, err)
			}
		}
	}
}

// spoiled is the archive of all sorts with another byte at off.
func spoiled(t *testing.T, off int) []byte {
	b := sorts(t, nil)
	b[off] ^= 1
	return b
}

// Who wants to rely on the names below a directory has all of them compared, and
// nothing beside it.
func TestConfirmBelow(t *testing.T) {
	truth := sorts(t, nil)
	lie := sorts(t, one("setid", func(e *catar.Entry) { e.UID = 7 }))
	for path, want := range map[string]error{"": tree.ErrContradicted, "dir": tree.ErrContradicted, "dir/setid": tree.ErrContradicted, "dir/inner": nil, "link": nil} {
		tr, _ := dropping(t, readSidecar(t, skimmed(t, lie), len(lie)), memory(truth))
		a, err := tr.Find(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.ConfirmBelow(t.Context(), a.ID); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", path, err, want)
		}
	}
	tr := open(t, truth)
	if err := tr.ConfirmBelow(t.Context(), tree.Root); err != nil {
		t.Error(err)
	}
	if err := tr.ConfirmBelow(t.Context(), 1000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// What cannot be read says nothing against a sidecar, and is read again.
func TestConfirmBroken(t *testing.T) {
	b := sorts(t, nil)
	broken := true
	src := &breaker{memory(b), func(int64, int64) bool { return broken }}
	tr, dropped := dropping(t, readSidecar(t, skimmed(t, b), len(b)), src)
	a, err := tr.Find(t.Context(), "dir/setid")
	if err != nil {
		t.Fatal(err)
	}
	check := func(want error) {
		t.Helper()
		_, entry := tr.Entry(t.Context(), a.ID)
		for i, err := range []error{tr.Confirm(t.Context(), a.ID), tr.ConfirmPath(t.Context(), a.ID), tr.ConfirmAll(t.Context()), entry} {
			if !errors.Is(err, want) {
				t.Errorf("%d: got %v, want %v", i, err, want)
			}
		}
	}
	check(errBroken)
	broken = false
	check(nil)
	if first := *dropped.Load(); !tr.Known() || errors.Is(first, tree.ErrContradicted) {
		t.Errorf("dropped since %v", first)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := known(t, b, memory(b)).ConfirmAll(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Without a sidecar there is nothing to confirm; an ID that nobody has is one.
func TestConfirmNothing(t *testing.T) {
	b := sorts(t, nil)
	tr := openSource(t, unreadAfter(b), len(b))
	for _, err := range []error{tr.Confirm(t.Context(), tree.Root), tr.ConfirmPath(t.Context(), tree.Root), tr.ConfirmAll(t.Context())} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, tr := range []*tree.Tree{tr, known(t, b, memory(b))} {
		for _, err := range []error{tr.Confirm(t.Context(), 1000), tr.ConfirmPath(t.Context(), 1000)} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
		}
	}
}

// unreadAfter is an archive of which nothing but the root is read.
func unreadAfter(b []byte) catar.Source {
	var n atomic.Int64
	return &breaker{memory(b), func(int64, int64) bool { return n.Add(1) > 2 }}
}

func openSource(t testing.TB, src catar.Source, size int) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(t.Context(), src, int64(size), tree.Options{InFlight: 1})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
