//go:build linux

package fusefs

import (
	"encoding/binary"

	"caravel/catar"
)

// The kernel's binary form of an access control list: linux/posix_acl_xattr.h.
const (
	aclVersion = 2

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclNobody = 1<<32 - 1 // the ID of an entry that needs none
)

// accessACL is the value of system.posix_acl_access for an entry with the list
// a and the permissions mode; nil if mode says it all.
func accessACL(a *catar.ACL, mode uint32) []byte {
	if a == nil || !a.Masked && len(a.Users) == 0 && len(a.Groups) == 0 {
		return nil
	}
	user, group, other := uint8(mode>>6&7), uint8(mode>>3&7), uint8(mode&7)
	mask := group // with a mask the mode's group bits are that
	if a.Masked {
		group = a.GroupObj
	}
	return encodeACL(user, group, mask, other, a.Masked, a.Users, a.Groups)
}

// defaultACL is the value of system.posix_acl_default; nil: there is none.
func defaultACL(a *catar.ACL) []byte {
	if a == nil || a.Default == nil {
		return nil
	}
	d := a.Default
	return encodeACL(d.UserObj, d.GroupObj, d.Mask, d.Other, d.Masked, d.Users, d.Groups)
}

func encodeACL(user, group, mask, other uint8, masked bool, users, groups []catar.ACLEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	add := func(tag uint16, perm uint8, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(perm))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	add(aclUserObj, user, aclNobody)
	for _, e := range users {
		add(aclUser, e.Perm, e.ID)
	}
	add(aclGroupObj, group, aclNobody)
	for _, e := range groups {
		add(aclGroup, e.Perm, e.ID)
	}
	if masked {
		add(aclMask, mask, aclNobody)
	}
	add(aclOther, other, aclNobody)
	return b
}
