package inode

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"caravel/catar"
)

// The kernel passes an ACL as the value of an extended attribute: a version,
// then eight bytes for each entry: tag, permissions, id.
const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8
	noID         = ^uint32(0)
)

// The tags, in the order in which the kernel wants them.
const (
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

var errACL = errors.New("not an access control list")

// A rights is one ACL as the kernel has it.
type rights struct {
	userObj, groupObj, other, mask uint8

	masked        bool
	users, groups []catar.ACLEntry
}

// parseACL reads the attribute's value.
func parseACL(b []byte) (*rights, error) {
	if len(b) < aclHeader || (len(b)-aclHeader)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errACL
	}
	var r rights
	var seen uint16
	for b = b[aclHeader:]; len(b) > 0; b = b[aclEntrySize:] {
		tag, perm := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		named := catar.ACLEntry{ID: binary.LittleEndian.Uint32(b[4:]), Perm: uint8(perm)}
		if perm > 7 {
			return nil, errACL
		}
		switch tag {
		case tagUserObj:
			r.userObj = uint8(perm)
		case tagGroupObj:
			r.groupObj = uint8(perm)
		case tagOther:
			r.other = uint8(perm)
		case tagMask:
			r.mask, r.masked = uint8(perm), true
		case tagUser:
			r.users = append(r.users, named)
		case tagGroup:
			r.groups = append(r.groups, named)
		default:
			return nil, errACL
		}
		seen |= tag
	}
	if seen&(tagUserObj|tagGroupObj|tagOther) != tagUserObj|tagGroupObj|tagOther ||
		seen&(tagUser|tagGroup) != 0 && !r.masked {
		return nil, errACL
	}
	return &r, nil
}

// bytes is the attribute's value.
func (r *rights) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	add := func(tag uint16, perm uint8, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(perm))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	add(tagUserObj, r.userObj, noID)
	for _, e := range byID(r.users) {
		add(tagUser, e.Perm, e.ID)
	}
	add(tagGroupObj, r.groupObj, noID)
	for _, e := range byID(r.groups) {
		add(tagGroup, e.Perm, e.ID)
	}
	if r.masked {
		add(tagMask, r.mask, noID)
	}
	add(tagOther, r.other, noID)
	return b
}

// byID brings entries into the kernel's order; names may have led elsewhere
// than the archive's order. It changes the slice.
func byID(all []catar.ACLEntry) []catar.ACLEntry {
	slices.SortStableFunc(all, func(a, b catar.ACLEntry) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// sortACL brings entries into the archive's order, in place.
func sortACL(all []catar.ACLEntry) {
	slices.SortFunc(all, func(a, b catar.ACLEntry) int {
		// No name sorts before every other one, being empty.
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name), cmp.Compare(a.Perm, b.Perm))
	})
}
