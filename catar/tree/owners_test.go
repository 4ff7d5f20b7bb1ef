package tree_test

import (
	"fmt"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
)

// TestOwners keeps the names of users and groups. If there are too many, some are not
// there, and all else is.
func TestOwners(t *testing.T) {
	const most = 1<<16 - 1
	m := newMaker(t, flags)
	want := func(i int) (user, group string) {
		switch {
		case i%10 == 1:
			return "", ""
		case i < 1000:
			return fmt.Sprintf("user%d", i%7), ""
		}
		return fmt.Sprintf("user%05d", i), "group"
	}
	const entries = most*10/9 + 2000
	for i := range entries {
		user, group := want(i)
		m.begin(fmt.Sprintf("f%06d", i), catar.Entry{Mode: syscall.S_IFIFO | 0o644, User: user, Group: group})
	}
	a := m.bytes()
	read := openSource(t, memory(a), len(a))
	if _, err := read.Children(t.Context(), tree.Root); err != nil {
		t.Fatal(err)
	}
	hinted := openWith(t, readSidecar(t, skimmed(t, a), len(a)), memory(a), tree.Options{})
	for how, tr := range map[string]*tree.Tree{"read": read, "from a sidecar": hinted} {
		lost := 0
		for i := range entries {
			at, err := tr.Lookup(t.Context(), tree.Root, fmt.Sprintf("f%06d", i))
			if err != nil {
				t.Fatal(err)
			}
			user, group := tr.Owners(at.ID)
			wantUser, wantGroup := want(i)
			if user == "" && group == "" && wantUser != "" {
				lost++
			} else if user != wantUser || group != wantGroup {
				t.Fatalf("%s: entry %d is of %q and %q", how, i, user, group)
			}
			if err := tr.Confirm(t.Context(), at.ID); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
		}
		if lost == 0 || lost > 3000 {
			t.Errorf("%s: %d entries lost their names", how, lost)
		}
	}
}
