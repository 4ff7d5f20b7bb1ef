package catar

import "caravel/feature"

// appendHead appends the records of a node from ENTRY up to its content. n has
// been reduced to f, and checked.
func appendHead(b []byte, n *Entry, f feature.Flags) []byte {
	b = appendEntry(b, n, f)
	if n.User != "" {
		b = appendText(b, typeUser, n.User)
	}
	if n.Group != "" {
		b = appendText(b, typeGroup, n.Group)
	}
	for _, x := range n.XAttrs {
		b = appendU64(b, uint64(headerSize+len(x.Name)+1+len(x.Value)), typeXAttr)
		b = append(append(b, x.Name...), 0)
		b = append(b, x.Value...)
	}
	if n.ACL != nil {
		b = appendACL(b, n.ACL)
	}
	if n.SELinux != "" {
		b = appendText(b, typeSELinux, n.SELinux)
	}
	if n.FCaps != nil {
		b = append(appendU64(b, uint64(headerSize+len(n.FCaps)), typeFCaps), n.FCaps...)
	}
	if n.ProjID != 0 {
		b = appendU64(b, 24, typeQuotaProjID, uint64(n.ProjID))
	}
	return appendContent(b, n)
}

func appendEntry(b []byte, n *Entry, f feature.Flags) []byte {
	return appendU64(b, entrySize, typeEntry, uint64(f), uint64(n.Mode), uint64(n.Flags),
		uint64(n.UID), uint64(n.GID), uint64(n.MTime))
}

// appendContent appends what the metadata of n leads up to, a payload's header
// only.
func appendContent(b []byte, n *Entry) []byte {
	switch {
	case n.IsRegular():
		b = appendU64(b, uint64(headerSize+n.Size), typePayload)
	case n.IsSymlink():
		b = appendText(b, typeSymlink, n.Target)
	case n.IsDevice():
		b = appendU64(b, deviceSize, typeDevice, uint64(n.Major), uint64(n.Minor))
	}
	return b
}

func appendACL(b []byte, a *ACL) []byte {
	b = appendACLEntries(b, typeACLUser, a.Users)
	b = appendACLEntries(b, typeACLGroup, a.Groups)
	if a.Masked {
		b = appendU64(b, 24, typeACLGroupObj, uint64(a.GroupObj))
	}
	d := a.Default
	if d == nil {
		return b
	}
	mask := uint64(unmasked)
	if d.Masked {
		mask = uint64(d.Mask)
	}
	b = appendU64(b, 48, typeACLDefault, uint64(d.UserObj), uint64(d.GroupObj), uint64(d.Other), mask)
	b = appendACLEntries(b, typeACLDefaultUser, d.Users)
	return appendACLEntries(b, typeACLDefaultGroup, d.Groups)
}

func appendACLEntries(b []byte, typ uint64, list []ACLEntry) []byte {
	for _, a := range list {
		size := 32
		if a.Name != "" {
			size += len(a.Name) + 1
		}
		b = appendU64(b, uint64(size), typ, uint64(a.ID), uint64(a.Perm))
		if a.Name != "" {
			b = append(append(b, a.Name...), 0)
		}
	}
	return b
}

// appendText appends a record of one text and the NUL that ends it.
func appendText(b []byte, typ uint64, text string) []byte {
	b = appendU64(b, uint64(headerSize+len(text)+1), typ)
	return append(append(b, text...), 0)
}
