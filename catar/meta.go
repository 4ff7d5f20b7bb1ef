package catar

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"caravel/feature"
)

// This file has the readers of the records of a head. Each gets the body of one
// record, whose size is within its kind's limits.

func (h *head) entry(b []byte) error {
	f := feature.Flags(u64(b, 0))
	if h.root {
		if err := f.Check(); err != nil {
			return err
		}
		h.flags = f
	}
	if f != h.flags {
		return fmt.Errorf("flags %#x in an archive with %#x", uint64(f), uint64(h.flags))
	}
	for i, what := range []string{1: "mode", 3: "user", 4: "group"} {
		if what != "" && u64(b, i) > math.MaxUint32 {
			return fmt.Errorf("%s %#x", what, u64(b, i))
		}
	}
	e := &h.n.Entry
	e.Mode, e.Flags = uint32(u64(b, 1)), feature.Flags(u64(b, 2))
	e.UID, e.GID = uint32(u64(b, 3)), uint32(u64(b, 4))
	e.MTime = int64(u64(b, 5))
	if err := e.checkFixed(f); err != nil {
		return err
	}
	if h.root && !e.IsDir() {
		return fmt.Errorf("the root is a %s", e.kind())
	}
	return nil
}

func (h *head) user(b []byte) error { return owner(b, &h.lastUser, &h.n.User) }

func (h *head) group(b []byte) error { return owner(b, &h.lastGroup, &h.n.Group) }

func owner(b []byte, last, to *string) error {
	name, err := text(b)
	if err != nil {
		return err
	}
	if string(name) != *last {
		*last = string(name)
	}
	*to = *last
	return nil
}

func (h *head) xattr(b []byte) error {
	i := bytes.IndexByte(b[:min(len(b), MaxName+1)], 0)
	if i < 0 {
		return errors.New("no NUL behind the name")
	}
	// Before memory is spent on it: a short name without a value costs more
	// here than in the archive.
	if h.xattrs += i + 1; h.xattrs > MaxXAttrNames {
		return fmt.Errorf("names of more than %d bytes in one node", MaxXAttrNames)
	}
	value := b[i+1:]
	if h.flags == feature.Desync {
		value = bytes.TrimSuffix(value, []byte{0}) // desync writes one too many
	}
	h.n.XAttrs = append(h.n.XAttrs, XAttr{Name: string(b[:i]), Value: bytes.Clone(value)})
	return nil
}

func (h *head) acl() *ACL {
	if h.n.ACL == nil {
		h.n.ACL = new(ACL)
	}
	return h.n.ACL
}

func (h *head) aclUser(b []byte) error { return aclEntry(b, &h.acl().Users) }

func (h *head) aclGroup(b []byte) error { return aclEntry(b, &h.acl().Groups) }

func (h *head) aclDefaultUser(b []byte) error {
	d := h.acl().Default
	if d == nil {
		return errors.New("without an ACL_DEFAULT")
	}
	return aclEntry(b, &d.Users)
}

func (h *head) aclDefaultGroup(b []byte) error {
	d := h.acl().Default
	if d == nil {
		return errors.New("without an ACL_DEFAULT")
	}
	return aclEntry(b, &d.Groups)
}

func aclEntry(b []byte, to *[]ACLEntry) error {
	var a ACLEntry
	if u64(b, 0) > math.MaxUint32 {
		return fmt.Errorf("owner %d", u64(b, 0))
	}
	a.ID = uint32(u64(b, 0))
	if err := permission(b, 1, &a.Perm); err != nil {
		return err
	}
	if b = b[16:]; len(b) > 0 {
		name, err := text(b)
		switch {
		case err != nil:
			return err
		case len(name) == 0:
			return errors.New("an empty name")
		}
		a.Name = string(name)
	}
	*to = append(*to, a)
	return nil
}

// permission reads number i of b.
func permission(b []byte, i int, to *uint8) error {
	v := u64(b, i)
	if v > 7 {
		return fmt.Errorf("permission %#o, above 7", v)
	}
	*to = uint8(v)
	return nil
}

func (h *head) aclGroupObj(b []byte) error {
	h.acl().Masked = true
	return permission(b, 0, &h.acl().GroupObj)
}

func (h *head) aclDefault(b []byte) error {
	d := new(DefaultACL)
	h.acl().Default = d
	for i, to := range []*uint8{&d.UserObj, &d.GroupObj, &d.Other} {
		if err := permission(b, i, to); err != nil {
			return err
		}
	}
	if u64(b, 3) == unmasked {
		return nil
	}
	d.Masked = true
	return permission(b, 3, &d.Mask)
}

func (h *head) selinux(b []byte) error {
	label, err := text(b)
	h.n.SELinux = string(label)
	return err
}

func (h *head) fcaps(b []byte) error {
	h.n.FCaps = bytes.Clone(b)
	return nil
}

func (h *head) projID(b []byte) error {
	id := u64(b, 0)
	if id == 0 || id > math.MaxUint32 {
		return fmt.Errorf("project %d, not 1 to 2^32-1", id)
	}
	h.n.ProjID = uint32(id)
	return nil
}

func (h *head) symlink(b []byte) error {
	target, err := text(b)
	h.n.Target = string(target)
	return err
}

func (h *head) device(b []byte) error {
	major, minor := u64(b, 0), u64(b, 1)
	if major > math.MaxUint32 || minor > math.MaxUint32 {
		return fmt.Errorf("device %d:%d", major, minor)
	}
	h.n.Major, h.n.Minor = uint32(major), uint32(minor)
	return nil
}
