package testtree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The tags of the entries in the value of a system.posix_acl_ attribute;
// linux/posix_acl.h.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclNobody = 1<<32 - 1 // the id of entries that have none
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// An aclEntry is one as the kernel keeps it.
type aclEntry struct {
	Tag, Perm uint16
	ID        uint32
}

// acls gives a node an access list, a directory perhaps a default one as well.
func (g *generator) acls(path string, mode uint32) {
	list := g.acl(uint16(mode>>6&7), uint16(mode>>3&7), uint16(mode&7))
	g.tried("ACL", unix.Lsetxattr(path, aclAccess, encodeACL(list), 0))
	if mode&unix.S_IFMT == unix.S_IFDIR && g.one(2) {
		bits := func() uint16 { return uint16(g.rng.IntN(8)) }
		g.tried("default ACL", unix.Lsetxattr(path, aclDefault, encodeACL(g.acl(bits(), bits(), bits())), 0))
	}
}

// acl is a list with named entries, with a mask only, or with neither. The
// kernel keeps the named ones in any order.
func (g *generator) acl(user, group, other uint16) []aclEntry {
	users, groups := g.rng.IntN(4), g.rng.IntN(3)
	if g.one(5) {
		users, groups = 0, 0
	}
	acl := append([]aclEntry{{aclUserObj, user, aclNobody}}, g.entries(aclUser, users)...)
	acl = append(acl, aclEntry{aclGroupObj, group, aclNobody})
	acl = append(acl, g.entries(aclGroup, groups)...)
	if len(acl) > 2 || g.one(2) {
		acl = append(acl, aclEntry{aclMask, uint16(g.rng.IntN(8)), aclNobody})
	}
	return append(acl, aclEntry{aclOther, other, aclNobody})
}

func (g *generator) entries(tag uint16, n int) []aclEntry {
	var acl []aclEntry
	for range n {
		id := g.id()
		if !slices.ContainsFunc(acl, func(e aclEntry) bool { return e.ID == id }) {
			acl = append(acl, aclEntry{tag, uint16(g.rng.IntN(8)), id})
		}
	}
	return acl
}

func encodeACL(acl []aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range acl {
		b = binary.LittleEndian.AppendUint16(b, e.Tag)
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// describeACL is an access control list as text, the named entries sorted: their
// order means nothing.
func describeACL(value []byte) (string, error) {
	if len(value) == 0 {
		return "none", nil
	}
	if len(value)%8 != 4 || binary.LittleEndian.Uint32(value) != aclVersion {
		return "", fmt.Errorf("testtree: access control list of %d bytes is none", len(value))
	}
	acl := make([]aclEntry, len(value)/8)
	if err := binary.Read(bytes.NewReader(value[4:]), binary.LittleEndian, acl); err != nil {
		return "", fmt.Errorf("testtree: access control list: %w", err)
	}
	slices.SortFunc(acl, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.ID, b.ID))
	})
	tags := map[uint16]string{
		aclUserObj: "user", aclUser: "user", aclGroupObj: "group", aclGroup: "group", aclMask: "mask", aclOther: "other",
	}
	text := make([]string, len(acl))
	for i, e := range acl {
		text[i] = fmt.Sprintf("%s:%d:%o", tags[e.Tag], int32(e.ID), e.Perm)
	}
	return strings.Join(text, " "), nil
}
