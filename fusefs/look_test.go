//go:build linux

package fusefs_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/fusefs"
)

// TestLook shows a part of a tree, with other owners.
func TestLook(t *testing.T) {
	tr := newFakeTree(best)
	sub := tr.dir(tree.Root, "sub")
	tr.add(sub, "file", catar.Entry{
		Mode: unix.S_IFREG | 0o640, UID: 1, GID: 2, Size: 3, User: "me", Group: "us all",
		ACL: &catar.ACL{Masked: true, GroupObj: 4, Users: []catar.ACLEntry{{ID: 7, Perm: 4}, {ID: 8, Perm: 6, Name: "you"}}},
	})
	tr.dir(sub, "zdir")
	plus := func(n uint32, _ string) uint32 { return n + 1000 }
	folded := func(uint32, string) uint32 { return 5 }
	named := func(n uint32, name string) uint32 { return n + 100*uint32(len(name)) }
	for _, tt := range []struct {
		look     fusefs.Look
		uid, gid uint32
		mode     uint32
		acl      string
	}{
		{fusefs.Look{Root: sub}, 1, 2, 0o100640, "u:7:r--,u:8:rw-"},
		{fusefs.Look{Root: sub, UID: plus, GID: plus}, 1001, 1002, 0o100640, "u:1007:r--,u:1008:rw-"},
		{fusefs.Look{Root: sub, UID: folded}, 5, 2, 0o100640, "u:5:r--"},
		{fusefs.Look{Root: sub, UID: named, GID: named}, 201, 602, 0o100640, "u:7:r--,u:308:rw-"},
		{fusefs.Look{Root: sub, Perm: func(uint32) uint32 { return 0o555 }}, 1, 2, 0o100555, ""},
	} {
		m := mountedTree(t, tr, fusefs.Options{Look: tt.look})
		var st unix.Stat_t
		if err := unix.Lstat(m.Dir+"/file", &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != tt.uid || st.Gid != tt.gid || st.Mode != tt.mode {
			t.Errorf("%+v: %d, %d, %o", tt.look, st.Uid, st.Gid, st.Mode)
		}
		value, err := getxattr(m.Dir+"/file", "system.posix_acl_access")
		if got := namedUsers(value); got != tt.acl || (err != nil) != (tt.acl == "") {
			t.Errorf("%+v: list %q, %v", tt.look, got, err)
		}
		var up, here unix.Stat_t
		if err := errors.Join(unix.Stat(m.Dir+"/zdir/..", &up), unix.Stat(m.Dir, &here)); err != nil || up.Ino != here.Ino || here.Nlink != 3 {
			t.Errorf("inode %d above %d, %d links, %v", up.Ino, here.Ino, here.Nlink, err)
		}
		if names, err := os.ReadDir(m.Dir); err != nil || len(names) != 2 {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// namedUsers are those of an access control list in the kernel's form: a version, and
// for each entry its kind, permissions and ID.
func namedUsers(list string) string {
	var all []string
	for b := []byte(list); len(b) >= 12; b = b[8:] {
		if binary.LittleEndian.Uint16(b[4:]) == 2 {
			perm := fs.FileMode(b[6])
			all = append(all, fmt.Sprintf("u:%d:%s", binary.LittleEndian.Uint32(b[8:]), perm.String()[7:]))
		}
	}
	return strings.Join(all, ",")
}

// TestUnsettled has the links of a directory asked for again, until they are known.
func TestUnsettled(t *testing.T) {
	tr := newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	tr.dir(dir, "below")
	tr.unsettled.Store(true)
	m := mountedTree(t, tr, fusefs.Options{})
	var st unix.Stat_t
	if err := unix.Lstat(m.Dir+"/dir", &st); err != nil || st.Nlink != 1 {
		t.Errorf("%d links, %v", st.Nlink, err)
	}
	tr.unsettled.Store(false)
	for begun := time.Now(); st.Nlink != 3 && time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if err := unix.Lstat(m.Dir+"/dir", &st); err != nil {
			t.Fatal(err)
		}
	}
	if st.Nlink != 3 {
		t.Errorf("%d links still", st.Nlink)
	}
}

// effectiveTree has what may have an effect.
func effectiveTree() *fakeTree {
	tr := newFakeTree(best)
	tr.add(tree.Root, "capable", catar.Entry{Mode: unix.S_IFREG | 0o755, FCaps: append([]byte{1, 0, 0, 2}, make([]byte, 16)...)})
	tr.add(tree.Root, "device", catar.Entry{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3})
	tr.add(tree.Root, "other", catar.Entry{Mode: unix.S_IFREG | 0o755})
	tr.add(tree.Root, "setid", catar.Entry{Mode: unix.S_IFREG | unix.S_ISUID | 0o755})
	return tr
}

// TestEffective makes sure of what has an effect before it is shown.
func TestEffective(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	tr := effectiveTree()
	for _, effective := range []bool{false, true} {
		m := mountedTree(t, tr, fusefs.Options{SetID: effective, Devices: effective})
		asked := tr.count("confirm path")
		if names, err := os.ReadDir(m.Dir); err != nil || len(names) != 4 || tr.count("confirm path") != asked {
			t.Errorf("%v, %v", names, err)
		}
		for name, want := range map[string]bool{"capable": false, "device": effective, "other": false, "setid": effective} {
			asked := tr.count("confirm path")
			if _, err := os.Lstat(filepath.Join(m.Dir, name)); err != nil || (tr.count("confirm path") > asked) != want {
				t.Errorf("%s: %v, %d questions", name, err, tr.count("confirm path")-asked)
			}
		}
		asked = tr.count("confirm path")
		if _, err := getxattr(m.Dir+"/capable", "security.capability"); err != nil || (tr.count("confirm path") > asked) != effective {
			t.Errorf("capabilities: %v, %d questions", err, tr.count("confirm path")-asked)
		}
		f, err := os.Open(m.Dir + "/device")
		if (err == nil) != effective {
			t.Errorf("device: %v", err)
		}
		f.Close()
	}
	// What is not so is not shown.
	tr = effectiveTree()
	tr.before = func(_ context.Context, op string, _ tree.ID, _ string) error {
		if op == "confirm path" {
			return errors.New("it is a lie")
		}
		return nil
	}
	m := mountedTree(t, tr, fusefs.Options{SetID: true, Devices: true})
	for name, want := range map[string]error{"device": unix.EIO, "setid": unix.EIO, "other": nil} {
		if _, err := os.Lstat(filepath.Join(m.Dir, name)); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
