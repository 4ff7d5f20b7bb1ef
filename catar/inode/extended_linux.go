package inode

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// has lists what is kept in extended attributes, and the features among those
// wanted that this type of node can have.
func (w *setting) has() (has list, f feature.Flags) {
	f = w.s.flags
	switch {
	case w.typ == unix.S_IFLNK:
		f &= feature.SELinux
	case !w.opened():
		f &= feature.SELinux | feature.ACL
	default:
		f &= feature.SELinux | feature.ACL | feature.XAttrs | feature.FCaps
	}
	if f == 0 {
		return list{}, 0
	}
	has, err := w.attributes(false)
	if err != nil {
		w.refused(f, err, "extended attributes")
		return list{}, 0
	}
	return has, f
}

// extended sets what else is kept in extended attributes of the system, and
// removes what the node has of it and the entry has not.
func (w *setting) extended(e *catar.Entry, has list, f feature.Flags) {
	if f&feature.XAttrs != 0 {
		w.plainXAttrs("trusted.", e.XAttrs, has.plain) // XFS has the ACLs there, too
	}
	if f&feature.SELinux != 0 {
		w.label(e.SELinux, has.label)
	}
	if f&feature.FCaps != 0 && w.typ == unix.S_IFREG {
		w.attribute(feature.FCaps, capability, e.FCaps, has.capability, "capabilities")
	}
}

// attribute sets one attribute, or removes it if value is nil.
func (w *setting) attribute(f feature.Flags, name string, value []byte, has bool, what string) {
	switch {
	case value != nil:
		w.refused(f, w.setXAttr(name, value), "%s", what)
	case has:
		if err := w.removeXAttr(name); !unsupported(err) {
			w.refused(f, err, "%s", what)
		}
	}
}

// acls sets both lists before the mode is set: the access list comes with the
// permissions at once, whereas chmod alone would give the owning group for
// a moment what only the mask allows. If the access list cannot be had that is
// taken out of mode, which is returned.
func (w *setting) acls(e *catar.Entry, has list, mode uint32) uint32 {
	acl := e.ACL
	if acl == nil {
		acl = new(catar.ACL)
	}
	access := rights{userObj: uint8(e.Mode >> 6 & 7), groupObj: uint8(e.Mode >> 3 & 7), other: uint8(e.Mode & 7)}
	switch {
	case acl.Masked:
		access.masked, access.mask, access.groupObj = true, access.groupObj, acl.GroupObj
		if err := w.setXAttr(accessACL, w.rights(&access, acl.Users, acl.Groups)); err != nil {
			w.refused(feature.ACL, err, "access control list")
			mode = mode&^0o070 | uint32(access.groupObj&access.mask)<<3
		}
		w.restat()
	case has.access:
		// A list that says no more than the mode replaces the other one and is
		// not kept; where it cannot be had chmod says the same.
		if w.setXAttr(accessACL, access.bytes()) == unix.EOPNOTSUPP {
			break
		}
		w.attribute(feature.ACL, accessACL, nil, true, "access control list")
		w.restat()
	}
	var defaults []byte
	if d := acl.Default; d != nil && w.typ == unix.S_IFDIR {
		defaults = w.rights(&rights{
			userObj: d.UserObj, groupObj: d.GroupObj, other: d.Other, masked: d.Masked, mask: d.Mask,
		}, d.Users, d.Groups)
	}
	w.attribute(feature.ACL, defaultACL, defaults, has.defaults, "default access control list")
	return mode
}

// restat finds out which mode an access list has left.
func (w *setting) restat() {
	w.refused(0, statx(w.fd, &w.st), "stat")
}

// rights is the attribute's value of r with these entries.
func (w *setting) rights(r *rights, users, groups []catar.ACLEntry) []byte {
	r.users = w.here(users, "user", w.s.names.users)
	r.groups = w.here(groups, "group", w.s.names.groups)
	return r.bytes()
}

// here returns the entries with the numbers that their names have here. Those
// without one grant nothing to anybody.
func (w *setting) here(all []catar.ACLEntry, kind string, who func() (*roll, error)) []catar.ACLEntry {
	known := make([]catar.ACLEntry, 0, len(all))
	for _, e := range all {
		id, err := w.s.idOf(e.Name, e.ID, kind, who)
		if err != nil {
			w.refused(feature.ACL, err, "access control list: %s %q", kind, e.Name)
			continue
		}
		known = append(known, catar.ACLEntry{ID: id, Perm: e.Perm})
	}
	return known
}

// plainXAttrs sets the attributes of a namespace that the entry has. What is
// not user's or trusted's is none of theirs: with it an archive could grant
// capabilities.
func (w *setting) plainXAttrs(namespace string, all []catar.XAttr, has []string) {
	for _, name := range has {
		if strings.HasPrefix(name, namespace) &&
			!slices.ContainsFunc(all, func(x catar.XAttr) bool { return x.Name == name }) {
			w.refused(feature.XAttrs, w.removeXAttr(name), "removing the extended attribute %q", name)
		}
	}
	for _, x := range all {
		if strings.HasPrefix(x.Name, namespace) && plain(x.Name) {
			w.refused(feature.XAttrs, w.setXAttr(x.Name, x.Value), "extended attribute %q", x.Name)
		}
	}
}

// label sets SELinux's label, with the NUL that its own tools write. Where the
// kernel runs SELinux a node without a label does not exist; there the one
// that its policy gave stays.
func (w *setting) label(want string, has bool) {
	if want == "" {
		if has && !w.s.labelled() {
			w.attribute(feature.SELinux, label, nil, true, "SELinux label")
		}
		return
	}
	value := append([]byte(want), 0)
	if has {
		have, err := w.xattr(label)
		if err == nil && bytes.Equal(bytes.TrimSuffix(have, []byte{0}), value[:len(want)]) {
			return
		}
	}
	w.refused(feature.SELinux, w.setXAttr(label, value), "SELinux label %q", want)
}
