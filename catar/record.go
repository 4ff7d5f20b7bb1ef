package catar

import (
	"encoding/binary"

	"caravel/feature"
)

// A record is a header of two numbers, its size (the header counted) and its
// type, and a body.
const (
	headerSize = 16
	entrySize  = 64 // of an ENTRY
	deviceSize = 32 // of a DEVICE
	itemSize   = 24 // of an item in a GOODBYE, and of its tail
	tailMark   = 0x57446fa533702943
	unmasked   = 1<<64 - 1 // in place of a default ACL's mask
)

// The types of the records; docs/formats.md, section 4.2.
const (
	typeEntry           = 0x1396fabcea5bbb51
	typeUser            = 0xf453131aaeeaccb3
	typeGroup           = 0x25eb6ac969396a52
	typeXAttr           = 0xb8157091f80bc486
	typeACLUser         = 0x297dc88b2ef12faf
	typeACLGroup        = 0x36f2acb56cb3dd0b
	typeACLGroupObj     = 0x23047110441f38f3
	typeACLDefault      = 0xfe3eeda6823c8cd0
	typeACLDefaultUser  = 0xbdf03df9bd010a91
	typeACLDefaultGroup = 0xa0cb1168782d1f51
	typeSELinux         = 0x46faf0602fd26c59
	typeFCaps           = 0xf7267db0afed0629
	typeQuotaProjID     = 0x161baf2d8772a72b
	typeSymlink         = 0x664a6fb6830e0d6c
	typeDevice          = 0xac3dace369dfe643
	typePayload         = 0x8b9e1d93d6dcffc9
	typeFilename        = 0x6dbb6ebcb3161f0b
	typeGoodbye         = 0xdfd35c5e8327c403
)

// A kind is what is known of one type of records.
type kind struct {
	id       uint64
	name     string
	min, max uint64        // of the whole record
	needs    feature.Flags // one of these, for the record to be allowed
	place    int           // in the order of a node's records
	many     bool          // may come several times in a row

	// read takes the body into the node. Without it the record is content, and
	// not the head's to read.
	read func(h *head, body []byte) error
}

const (
	noLimit  = 1<<64 - 1
	maxOwner = 256 // of a user's or group's name, with its NUL
	content  = 14  // the place of what ends a head
)

var kinds = [...]kind{
	{typeFilename, "FILENAME", headerSize + 2, headerSize + MaxName + 1, 0, content, false, nil},
	{typeEntry, "ENTRY", entrySize, entrySize, 0, 1, false, (*head).entry},
	{typePayload, "PAYLOAD", headerSize, noLimit, 0, content, false, nil},
	{typeUser, "USER", headerSize + 2, headerSize + maxOwner, feature.UserNames, 2, false, (*head).user},
	{typeGroup, "GROUP", headerSize + 2, headerSize + maxOwner, feature.UserNames, 3, false, (*head).group},
	{typeGoodbye, "GOODBYE", headerSize + itemSize, noLimit, 0, content, false, nil},
	{typeSymlink, "SYMLINK", headerSize + 2, headerSize + MaxTarget + 1, feature.Symlinks, content, false, (*head).symlink},
	{typeXAttr, "XATTR", headerSize + 4, headerSize + MaxName + 1 + MaxValue, feature.XAttrs, 4, true, (*head).xattr},
	{typeACLUser, "ACL_USER", 32, 32 + maxOwner, feature.ACL, 5, true, (*head).aclUser},
	{typeACLGroup, "ACL_GROUP", 32, 32 + maxOwner, feature.ACL, 6, true, (*head).aclGroup},
	{typeACLGroupObj, "ACL_GROUP_OBJ", 24, 24, feature.ACL, 7, false, (*head).aclGroupObj},
	{typeACLDefault, "ACL_DEFAULT", 48, 48, feature.ACL, 8, false, (*head).aclDefault},
	{typeACLDefaultUser, "ACL_DEFAULT_USER", 32, 32 + maxOwner, feature.ACL, 9, true, (*head).aclDefaultUser},
	{typeACLDefaultGroup, "ACL_DEFAULT_GROUP", 32, 32 + maxOwner, feature.ACL, 10, true, (*head).aclDefaultGroup},
	{typeSELinux, "SELINUX", headerSize + 2, headerSize + MaxLabel + 1, feature.SELinux, 11, false, (*head).selinux},
	{typeFCaps, "FCAPS", headerSize + 1, headerSize + MaxValue, feature.FCaps, 12, false, (*head).fcaps},
	{typeQuotaProjID, "QUOTA_PROJID", 24, 24, feature.QuotaProjID, 13, false, (*head).projID},
	{typeDevice, "DEVICE", deviceSize, deviceSize, feature.DeviceNodes, content, false, (*head).device},
}

// kindOf judges a record's header: its type has to be known, and its size to
// be within the type's limits, before anything is done for it. With an error
// the kind is nil if the type is not known.
func kindOf(header []byte, off int64) (*kind, uint64, error) {
	size, id := u64(header, 0), u64(header, 1)
	for i := range kinds {
		k := &kinds[i]
		if k.id != id {
			continue
		}
		switch {
		case size >= k.min && size <= k.max:
			return k, size, nil
		case k.min == k.max:
			return k, 0, refuse(off, "%s of %d bytes, not %d", k.name, size, k.min)
		case k.max == noLimit:
			return k, 0, refuse(off, "%s of %d bytes, below %d", k.name, size, k.min)
		}
		return k, 0, refuse(off, "%s of %d bytes, not %d to %d", k.name, size, k.min, k.max)
	}
	return nil, 0, refuse(off, "no record has the type %#016x (%d bytes)", id, size)
}

// u64 is number i of those in b.
func u64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }

func appendU64(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
