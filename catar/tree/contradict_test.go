package tree_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// sorts is an archive with an entry of each sort, after change has had its way
// with each.
func sorts(t testing.TB, change func(name string, e *catar.Entry) string) []byte {
	m := newMaker(t, flags)
	add := func(name string, e catar.Entry) {
		if change != nil {
			name = change(name, &e)
		}
		if name == "" {
			return
		}
		m.begin(name, e)
		if _, err := m.e.Write(bytes.Repeat([]byte{'x'}, int(e.Size))); err != nil {
			t.Fatal(err)
		}
	}
	add("block", catar.Entry{Mode: syscall.S_IFBLK | 0o600, Major: 8, Minor: 1})
	add("dir", catar.Entry{Mode: syscall.S_IFDIR | 0o755})
	add("inner", catar.Entry{Mode: syscall.S_IFREG | 0o644, Size: 1000, UID: 1, GID: 2, MTime: 3})
	add("setid", catar.Entry{Mode: syscall.S_IFREG | 0o4755, Size: 2000})
	m.end()
	add("empty", catar.Entry{Mode: syscall.S_IFREG | 0o644})
	add("fifo", catar.Entry{Mode: syscall.S_IFIFO | 0o644})
	add("link", catar.Entry{Mode: syscall.S_IFLNK | 0o777, Target: "where/to"})
	add("named", catar.Entry{Mode: syscall.S_IFREG | 0o644, User: "somebody", Size: 10})
	add("very-far", catar.Entry{Mode: syscall.S_IFREG | 0o644, Size: 100_000})
	return m.bytes()
}

// one changes the entry with a name.
func one(name string, change func(e *catar.Entry)) func(string, *catar.Entry) string {
	return func(n string, e *catar.Entry) string {
		if n == name {
			change(e)
		}
		return n
	}
}

// Whatever a sidecar says otherwise than the archive is found out: when the entry
// is asked for, when its path is, and when all is compared.
func TestContradicted(t *testing.T) {
	moved := func(n string, e *catar.Entry) string {
		e.Size += map[string]int64{"inner": 1, "setid": -1}[n]
		return n
	}
	tests := []struct {
		name   string
		path   string                                   // in the sidecar
		change func(name string, e *catar.Entry) string // what the sidecar has
		want   string
	}{
		{"mode", "dir/setid", one("setid", func(e *catar.Entry) { e.Mode = syscall.S_IFREG | 0o755 }), "mode 0104755, not 0100755"},
		{"set-id bit", "dir/inner", one("inner", func(e *catar.Entry) { e.Mode |= 0o4000 }), "mode 0100644, not 0104644"},
		{"mode of a directory", "dir", one("dir", func(e *catar.Entry) { e.Mode |= 0o2000 }), "mode 040755, not 042755"},
		{"type", "fifo", one("fifo", func(e *catar.Entry) { e.Mode = syscall.S_IFSOCK | 0o644 }), "mode 010644, not 0140644"},
		{"user", "dir/inner", one("inner", func(e *catar.Entry) { e.UID = 0 }), "user 1, not 0"},
		{"group", "dir/inner", one("inner", func(e *catar.Entry) { e.GID = 0 }), "group 2, not 0"},
		{"time", "dir/inner", one("inner", func(e *catar.Entry) { e.MTime = 4 }), "time 3, not 4"},
		{"size", "dir/inner", moved, "size 1000, not 1001"},
		{"place", "dir/setid", moved, "it is not there (catar: offset"},
		{"target", "link", one("link", func(e *catar.Entry) { e.Target = "../shell" }), `target "where/to", not "../shell"`},
		{"device", "block", one("block", func(e *catar.Entry) { e.Minor = 2 }), "device 8:1, not 8:2"},
		{"device type", "block", one("block", func(e *catar.Entry) { e.Mode = syscall.S_IFCHR | 0o600 }), "mode 060600, not 020600"},
		{"name", "dir/innes", func(n string, e *catar.Entry) string { return strings.Replace(n, "inner", "innes", 1) }, `name "inner", not "innes"`},
		{"attributes", "named", one("named", func(e *catar.Entry) {
			e.User, e.XAttrs = "", []catar.XAttr{{Name: "user.a", Value: []byte("12")}}
		}), "metadata beyond owner, mode and time without extended attributes, not with extended attributes"},
		{"name of the user", "named", one("named", func(e *catar.Entry) { e.User = "somebodx" }), `owners "somebody" and "", not "somebodx" and ""`},
		{"fewer records", "named", one("named", func(e *catar.Entry) { e.User, e.Size = "", e.Size+25 }), "it has more than"},
		{"shorter record", "named", one("named", func(e *catar.Entry) { e.User, e.Size = "some", e.Size+4 }), "size 10, not 14"},
		{"an entry too few", "dir", func(n string, e *catar.Entry) string {
			switch n {
			case "empty":
				return ""
			case "very-far":
				e.Size += 16 + 6 + 64 + 16 + 24
			}
			return n
		}, ""},
	}
	truth := sorts(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lie := sorts(t, tt.change)
			if len(lie) != len(truth) {
				t.Fatalf("%d bytes in place of %d", len(lie), len(truth))
			}
			contradicted(t, readSidecar(t, skimmed(t, lie), len(lie)), truth, tt.path, tt.want)
		})
	}
}

// contradicted makes sure that what a sidecar says of an entry is found to be
// wrong in all ways.
func contradicted(t *testing.T, s *tree.Sidecar, truth []byte, path, want string) {
	t.Helper()
	ways := map[string]func(tr *tree.Tree, id tree.ID) error{
		"Confirm":     func(tr *tree.Tree, id tree.ID) error { return tr.Confirm(t.Context(), id) },
		"ConfirmPath": func(tr *tree.Tree, id tree.ID) error { return tr.ConfirmPath(t.Context(), id) },
		"Entry": func(tr *tree.Tree, id tree.ID) error {
			_, err := tr.Entry(t.Context(), id)
			return err
		},
	}
	for name, way := range ways {
		if want == "" {
			break // not to be found there
		}
		tr, dropped := dropping(t, s, memory(truth))
		a, err := tr.Find(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		err = way(tr, a.ID)
		if name == "ConfirmPath" && !errors.Is(err, tree.ErrContradicted) ||
			name != "ConfirmPath" && !saysSo(err, path, want) {
			t.Errorf("%s: got %v, want %q of %q in it", name, err, want, path)
		}
		first := *dropped.Load()
		if tr.Known() || !errors.Is(first, tree.ErrContradicted) {
			t.Errorf("%s: known %v, dropped since %v", name, tr.Known(), first)
		}
		for other, way := range ways { // for ever
			if again := way(tr, a.ID); !errors.Is(again, tree.ErrContradicted) {
				t.Errorf("%s after %s: got %v", other, name, again)
			}
		}
		if _, err := tr.Find(t.Context(), path); !errors.Is(err, tree.ErrContradicted) {
			t.Errorf("%s: found all the same: %v", name, err)
		}
	}
	tr, dropped := dropping(t, s, memory(truth))
	if err := tr.ConfirmAll(t.Context()); !saysSo(err, "", "") || tr.Known() || *dropped.Load() != err {
		t.Errorf("ConfirmAll: got %v, dropped since %v", err, *dropped.Load())
	}
	if err := tr.Complete(t.Context()); !errors.Is(err, tree.ErrContradicted) {
		t.Errorf("and then: %v", err)
	}
	believedIsTrue(t, tr, truth)
}

// saysSo reports whether an error is a contradiction that names an entry, an
// offset and what differs.
func saysSo(err error, path, want string) bool {
	return errors.Is(err, tree.ErrContradicted) && strings.Contains(err.Error(), path) &&
		strings.HasPrefix(err.Error(), "tree: offset ") && strings.Contains(err.Error(), want)
}

// dropping is a tree that tells when its sidecar is dropped; twice is an error.
func dropping(t *testing.T, s *tree.Sidecar, src catar.Source) (*tree.Tree, *atomic.Pointer[error]) {
	var dropped atomic.Pointer[error]
	none := errors.New("not dropped")
	dropped.Store(&none)
	return openWith(t, s, src, tree.Options{Dropped: func(err error) {
		if !dropped.CompareAndSwap(&none, &err) {
			t.Errorf("dropped again: %v", err)
		}
	}}), &dropped
}

// believedIsTrue makes sure that once the sidecar is in doubt, what the tree
// still answers is what the archive itself says, also that a name is not there.
func believedIsTrue(t *testing.T, tr *tree.Tree, truth []byte) {
	t.Helper()
	walked := open(t, truth)
	for step, err := range walked.Walk(t.Context(), tree.Root, -1) {
		if err != nil {
			t.Fatal(err)
		}
		a, err := tr.Find(t.Context(), step.Path)
		if errors.Is(err, tree.ErrContradicted) {
			continue
		}
		id := a.ID
		if a.ID = step.ID; err != nil || a != step.Attr || tr.Span(id) != walked.Span(step.ID) {
			t.Errorf("%q: %+v, not %+v; %v", step.Path, a, step.Attr, err)
			continue
		}
		if want, err := walked.Target(t.Context(), step.ID); err == nil {
			if got, err := tr.Target(t.Context(), id); got != want || err != nil {
				t.Errorf("%q: target %q, not %q; %v", step.Path, got, want, err)
			}
		}
		if list, err := tr.Children(t.Context(), id); err == nil {
			all, err := walked.Children(t.Context(), step.ID)
			for i := range min(len(list), len(all)) {
				list[i].ID = all[i].ID
			}
			if err != nil || !slices.Equal(list, all) {
				t.Errorf("%q: children %+v, not %+v; %v", step.Path, list, all, err)
			}
		}
	}
}

// A table that does not list what the sidecar says is found out by those who
// ask for the path, and when all is compared.
func TestTableContradicted(t *testing.T) {
	good := sorts(t, nil)
	tr := open(t, good)
	a, err := tr.Find(t.Context(), "dir")
	if err != nil {
		t.Fatal(err)
	}
	end := tr.Span(a.ID).End
	table := end - catar.TableSize(2)
	swap := func(b []byte, to uint64) { binary.LittleEndian.PutUint64(b, to) }
	for name, spoil := range map[string]func(b []byte){
		"header":       func(b []byte) { b[0]++ },
		"type":         func(b []byte) { b[8]++ },
		"offset":       func(b []byte) { b[16]++ },
		"size":         func(b []byte) { b[24]-- },
		"hash":         func(b []byte) { b[32]++ },
		"second hash":  func(b []byte) { swap(b[56:], binary.LittleEndian.Uint64(b[56:])-1) },
		"tail's entry": func(b []byte) { b[64]++ },
		"tail's size":  func(b []byte) { b[72]++ },
		"mark":         func(b []byte) { b[80]++ },
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(good)
			spoil(bad[table:end])
			s := readSidecar(t, skimmed(t, good), len(good))
			for way, confirm := range map[string]func(context.Context, *tree.Tree, tree.ID) error{
				"ConfirmPath": func(ctx context.Context, tr *tree.Tree, id tree.ID) error { return tr.ConfirmPath(ctx, id) },
				"ConfirmAll":  func(ctx context.Context, tr *tree.Tree, _ tree.ID) error { return tr.ConfirmAll(ctx) },
			} {
				tr, _ := dropping(t, s, memory(bad))
				a, err := tr.Find(t.Context(), "dir/inner")
				if err != nil {
					t.Fatal(err)
				}
				if err := tr.Confirm(t.Context(), a.ID); err != nil {
					t.Errorf("its own records: %v", err)
				}
				if err := confirm(t.Context(), tr, a.ID); !saysSo(err, `entry "dir"`, "") {
					t.Errorf("%s: got %v", way, err)
				}
				if err := tr.Confirm(t.Context(), a.ID); !saysSo(err, `entry "dir"`, "") {
					t.Errorf("%s, then Confirm: got %v", way, err)
				}
				if _, err := tr.Children(t.Context(), tr.Parent(a.ID)); !saysSo(err, `entry "dir"`, "") {
					t.Errorf("%s, then Children: got %v", way, err)
				}
				if _, err := tr.Find(t.Context(), "empty"); err != nil { // which has nothing to do with it
					t.Errorf("%s: another entry: %v", way, err)
				}
			}
		})
	}
}
