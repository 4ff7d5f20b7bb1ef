package restore_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/feature"
)

// TestSetIDOfNobodyKnown: a program of somebody's must not become one of root's
// because the archive, or what is restored of it, does not say whose it is.
func TestSetIDOfNobodyKnown(t *testing.T) {
	needRoot(t)
	const names, numbers = feature.UserNames, feature.UIDs
	called := func(user, group string) func(e *catar.Entry) {
		return func(e *catar.Entry) { e.User, e.Group = user, group }
	}
	for _, tt := range []struct {
		what    string
		archive feature.Flags
		without feature.Flags
		uid     uint32
		more    func(e *catar.Entry)
		mode    uint32
		owner   uint32
	}{
		{what: "no owners", mode: 0o755},
		{what: "names, not restored", archive: names, without: names, more: called("bin", "bin"), mode: 0o755},
		{what: "names", archive: names, more: called("bin", "bin"), mode: 0o6755, owner: 2},
		{what: "names, but for the user", archive: names, more: called("", "bin"), mode: 0o2755},
		{what: "names, but for the group", archive: names, more: called("bin", ""), mode: 0o4755, owner: 2},
		{what: "numbers, not restored", archive: numbers, without: numbers, uid: 2, mode: 0o755},
		{what: "root, not restored", archive: numbers, without: numbers, mode: 0o6755},
		{what: "both, names left out", archive: names | numbers, without: names, uid: 2, more: called("bin", "bin"), mode: 0o6755, owner: 2},
		{what: "both, none restored", archive: names | numbers, without: names | numbers, uid: 2, more: called("bin", "bin"), mode: 0o755},
		{what: "numbers", archive: numbers, uid: 2, mode: 0o6755, owner: 2},
	} {
		program := node{name: "program", mode: unix.S_IFREG | 0o6755, uid: tt.uid, body: "#!", more: tt.more}
		fifo := node{name: "fifo", mode: unix.S_IFIFO | 0o6755, uid: tt.uid, more: tt.more}
		dir := node{name: "dir", mode: unix.S_IFDIR | 0o2755, uid: tt.uid, more: tt.more}
		dst := tempDir(t)
		mustExtract(t, archive(t, plain|tt.archive, program, fifo, dir), dst, restore.Options{Mask: feature.All &^ tt.without})
		for name, want := range map[string]uint32{"program": tt.mode, "fifo": tt.mode, "dir": 0o2755} {
			var st unix.Stat_t
			if err := unix.Stat(dst+"/"+name, &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode&0o7777 != want || st.Uid != tt.owner {
				t.Errorf("%s: %s: mode %o of %d, want %o of %d", tt.what, name, st.Mode&0o7777, st.Uid, want, tt.owner)
			}
		}
	}
}
