//go:build linux

package fusefs

import (
	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/tree"
)

// A Look is how a tree, or a file, is shown where that is not what it is. The zero
// value changes nothing.
type Look struct {
	Root tree.ID // what is shown of a tree is this directory; 0: all

	// Whose an entry is that the archive gives to a number, and a name if it has one;
	// also in access control lists. nil: the number's.
	UID, GID func(id uint32, name string) uint32

	Perm func(mode uint32) uint32 // the permissions of an entry of this mode, set-id bits included; nil: its own. There are no access control lists then, which would say something else
}

// owner are the shown owner and group of an entry.
func (l *Look) owner(t Tree, a *tree.Attr) (uid, gid uint32) {
	if l.UID == nil && l.GID == nil {
		return a.UID, a.GID
	}
	user, group := t.Owners(a.ID)
	return l.ids(a.UID, user, a.GID, group)
}

// ids are the shown owner and group of what belongs to a user and a group.
func (l *Look) ids(uid uint32, user string, gid uint32, group string) (uint32, uint32) {
	if l.UID != nil {
		uid = l.UID(uid, user)
	}
	if l.GID != nil {
		gid = l.GID(gid, group)
	}
	return uid, gid
}

// mode is the shown mode of an entry.
func (l *Look) mode(mode uint32) uint32 {
	if l.Perm == nil || mode&unix.S_IFMT == unix.S_IFLNK {
		return mode
	}
	return mode&unix.S_IFMT | l.Perm(mode)&^unix.S_IFMT
}

// acl is the shown access control list of an entry; nil if there is none.
func (l *Look) acl(a *catar.ACL) *catar.ACL {
	if a == nil || l.Perm != nil {
		return nil
	}
	if l.UID == nil && l.GID == nil {
		return a
	}
	shown := *a
	shown.Users, shown.Groups = mapped(a.Users, l.UID), mapped(a.Groups, l.GID)
	if a.Default != nil {
		d := *a.Default
		d.Users, d.Groups = mapped(d.Users, l.UID), mapped(d.Groups, l.GID)
		shown.Default = &d
	}
	return &shown
}

// mapped are the entries of a list with other IDs. Where two become one, the kernel
// would take the first that fits: it stays.
func mapped(all []catar.ACLEntry, id func(uint32, string) uint32) []catar.ACLEntry {
	if id == nil || len(all) == 0 {
		return all
	}
	shown := make([]catar.ACLEntry, 0, len(all))
	seen := make(map[uint32]bool, len(all))
	for _, e := range all {
		if e.ID = id(e.ID, e.Name); !seen[e.ID] {
			seen[e.ID] = true
			shown = append(shown, e)
		}
	}
	return shown
}
