package catar

import (
	"slices"
	"strconv"
	"strings"

	"caravel/feature"
)

// Reduce takes from e what an archive with the flags f does not keep: the mode,
// the time, the owners and the flags become what such an archive says of them.
// What e's slices and its ACL refer to is left as it is; they are replaced.
//
// A user's or group's name that the format cannot hold (a dot in it, say) goes
// where there is a number as well. casync writes it, and then cannot read its
// archive.
func (e *Entry) Reduce(f feature.Flags) {
	e.Flags = keptFlags(e.Flags, e.Mode, f)
	e.Mode = keptMode(e.Mode, f)
	e.reduceOwners(f)
	e.MTime = reduceTime(e.MTime, f)
	e.reduceXAttrs(f)
	e.reduceACL(f)

	plain := e.IsRegular() || e.IsDir()
	if f&feature.SELinux == 0 {
		e.SELinux = ""
	}
	if f&feature.FCaps == 0 || !e.IsRegular() {
		e.FCaps = nil
	}
	if f&feature.QuotaProjID == 0 || !plain {
		e.ProjID = 0
	}
	if !e.IsRegular() {
		e.Size = 0
	}
	if !e.IsSymlink() {
		e.Target = ""
	}
	if !e.IsDevice() {
		e.Major, e.Minor = 0, 0
	}
}

// keptMode is what an archive with the flags f has of a mode.
func keptMode(mode uint32, f feature.Flags) uint32 {
	typ := mode & ModeType
	all, readOnly := uint32(0o666), uint32(0o444)
	if typ == ModeDir {
		all, readOnly = 0o777, 0o555
	}
	switch {
	case typ == ModeLink:
		return typ | 0o777
	case f&(feature.Permissions|feature.ACL) != 0:
		return mode & (ModeType | modePerm)
	case f&feature.ReadOnly != 0 && mode&0o222 == 0:
		return typ | readOnly
	}
	return typ | all
}

// keptFlags is what an archive with the flags f has of the flags of a node.
func keptFlags(flags feature.Flags, mode uint32, f feature.Flags) feature.Flags {
	switch mode & ModeType {
	case ModeDir:
		flags &= f & (feature.Chattr | feature.FATAttrs | feature.Subvolume | feature.SubvolumeRO)
		if flags&feature.Subvolume == 0 {
			flags &^= feature.SubvolumeRO
		}
		return flags
	case ModeRegular:
		return flags & f & (feature.Chattr | feature.FATAttrs)
	}
	return 0
}

func (e *Entry) reduceOwners(f feature.Flags) {
	e.User, e.Group = reduceName(e.User, e.UID, f), reduceName(e.Group, e.GID, f)
	if f&feature.UIDs == 0 {
		e.UID, e.GID = 0, 0
	}
}

// reduceName is the name that an archive has for the owner id.
func reduceName(name string, id uint32, f feature.Flags) string {
	switch {
	case f&feature.UserNames == 0, id == 0 && name == "root":
		return ""
	case checkName(name, id, f) == nil && name != "":
		return name
	case f&feature.UIDs == 0 && id != 0:
		return strconv.FormatUint(uint64(id), 10)
	}
	return ""
}

// reduceTime rounds down, in the unsigned form that the archive has the time
// in. Before 1970 the outcome is of no use unless the step is 1 ns; it is the
// one that casync has.
func reduceTime(t int64, f feature.Flags) int64 {
	step := uint64(f.Granularity())
	if step == 0 {
		return 0
	}
	return int64(uint64(t) / step * step)
}

func (e *Entry) reduceXAttrs(f feature.Flags) {
	if f&feature.XAttrs == 0 || e.IsSymlink() {
		e.XAttrs = nil
		return
	}
	drop := func(x XAttr) bool { return checkXAttrName(x.Name) != nil || !ownNamespace(x.Name) }
	if slices.ContainsFunc(e.XAttrs, drop) {
		e.XAttrs = slices.DeleteFunc(slices.Clone(e.XAttrs), drop)
	}
}

// ownNamespace reports whether an attribute is of those that XATTR records are
// for. Capabilities, labels and ACLs have records of their own.
func ownNamespace(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
}

func (e *Entry) reduceACL(f feature.Flags) {
	if e.ACL == nil {
		return
	}
	if f&feature.ACL == 0 || e.IsSymlink() {
		e.ACL = nil
		return
	}
	a := *e.ACL
	a.Users, a.Groups = reduceACLEntries(a.Users, f), reduceACLEntries(a.Groups, f)
	switch {
	case !e.IsDir():
		a.Default = nil
	case a.Default != nil:
		d := *a.Default
		d.Users, d.Groups = reduceACLEntries(d.Users, f), reduceACLEntries(d.Groups, f)
		a.Default = &d
	}
	e.ACL = &a
	if !a.Masked && a.Default == nil && len(a.Users)+len(a.Groups) == 0 {
		e.ACL = nil
	}
}

func reduceACLEntries(list []ACLEntry, f feature.Flags) []ACLEntry {
	reduced := func(a ACLEntry) ACLEntry {
		a.Name = reduceName(a.Name, a.ID, f)
		if f&feature.UIDs == 0 {
			a.ID = 0
		}
		return a
	}
	if !slices.ContainsFunc(list, func(a ACLEntry) bool { return reduced(a) != a }) {
		return list
	}
	list = slices.Clone(list)
	for i, a := range list {
		list[i] = reduced(a)
	}
	slices.SortFunc(list, compareACL)
	return list
}
