//go:build linux

package fusefs

import (
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// Extended attributes that an archive keeps in records of their own.
const (
	xattrFCaps      = "security.capability"
	xattrSELinux    = "security.selinux"
	xattrACL        = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
	trusted         = "trusted."
)

// xattrFeature is the feature that an attribute's name belongs to; 0: such a
// one is never shown. An archive's ordinary attributes are those that extract
// sets: others among them, which casync does not write, could claim rights.
func xattrFeature(name string) feature.Flags {
	switch name {
	case xattrFCaps:
		return feature.FCaps
	case xattrSELinux:
		return feature.SELinux
	case xattrACL, xattrDefaultACL:
		return feature.ACL
	}
	if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, trusted) {
		return feature.XAttrs
	}
	return 0
}

// xattr is the shown value of an attribute of n.
func (l *Look) xattr(n *catar.Node, name string) (value []byte, ok bool) {
	switch name {
	case xattrFCaps:
		return n.FCaps, n.FCaps != nil
	case xattrSELinux:
		return []byte(n.SELinux), n.SELinux != ""
	case xattrACL:
		value = accessACL(l.acl(n.ACL), n.Mode)
		return value, value != nil
	case xattrDefaultACL:
		value = defaultACL(l.acl(n.ACL))
		return value, value != nil
	}
	i, ok := slices.BinarySearchFunc(n.XAttrs, name, func(x catar.XAttr, name string) int { return strings.Compare(x.Name, name) })
	if !ok {
		return nil, false
	}
	return n.XAttrs[i].Value, true
}

func (f *treeFS) GetXAttr(signal <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if f.flags&xattrFeature(name) == 0 {
		return 0, fuse.ENODATA // the kernel looks for capabilities in all that it executes
	}
	a, st := f.attr(h.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	if !a.XAttrs {
		return 0, f.noXAttr()
	}
	n, st := f.node(signal, h.Pid, a.ID, name == xattrFCaps && f.effective)
	if st != fuse.OK {
		return 0, st
	}
	value, ok := f.look.xattr(n, name)
	if !ok {
		return 0, fuse.ENODATA
	}
	return give(dest, value)
}

// noXAttr is the answer for an entry without attributes. The kernel keeps none
// of them; but where it is told that there is no such thing it never asks again,
// and ls -l asks for each entry.
func (f *treeFS) noXAttr() fuse.Status {
	if f.tree.Known() && f.plain() {
		return fuse.ENOSYS
	}
	return fuse.ENODATA
}

// isPlain reports whether none of the entries seen so far has attributes.
func isPlain(t Tree) bool {
	for id := range tree.ID(t.Len()) {
		if t.Attr(tree.Root + id).XAttrs {
			return false
		}
	}
	return true
}

// give copies b to dest, which is empty if only the length is asked for.
func give(dest, b []byte) (uint32, fuse.Status) {
	if len(dest) < len(b) {
		return uint32(len(b)), fuse.ERANGE
	}
	return uint32(copy(dest, b)), fuse.OK
}

// ListXAttr lists none where there are none. That there is no such thing would save
// requests here too, but tar complains of each entry then, and rsync of the first.
func (f *treeFS) ListXAttr(signal <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	a, st := f.attr(h.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	if !a.XAttrs {
		return 0, fuse.OK
	}
	n, st := f.node(signal, h.Pid, a.ID, false)
	if st != fuse.OK {
		return 0, st
	}
	return give(dest, f.listXAttrs(n, h.Uid == 0))
}

// listXAttrs are the names of n's attributes, each ended by NUL. The kernel
// refuses trusted ones to ordinary users, but it would list them.
func (f *treeFS) listXAttrs(n *catar.Node, privileged bool) []byte {
	var list []byte
	for _, name := range []string{xattrFCaps, xattrSELinux, xattrACL, xattrDefaultACL} {
		if _, ok := f.look.xattr(n, name); ok && f.flags&xattrFeature(name) != 0 {
			list = append(append(list, name...), 0)
		}
	}
	for _, x := range n.XAttrs {
		if xattrFeature(x.Name) != feature.XAttrs || !privileged && strings.HasPrefix(x.Name, trusted) {
			continue
		}
		list = append(append(list, x.Name...), 0)
	}
	return list
}
