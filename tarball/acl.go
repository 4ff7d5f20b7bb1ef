package tarball

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"caravel/catar"
	"caravel/catar/inode"
)

// A rights is one access control list.
type rights struct {
	userObj, groupObj, other, mask uint8

	masked        bool
	users, groups []catar.ACLEntry
}

// parseACLText reads a list as star, GNU tar and bsdtar write it: entries between
// commas or lines, of which the first two add a number to a name.
//
//	user::rw-,user:lisa:r--:502,group::r--,mask::r--,other::r--
func parseACLText(text string, ids *inode.IDs) (*rights, error) {
	var r rights
	seen := 0
	for entry := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ',' || c == '\n' }) {
		entry, _, _ = strings.Cut(strings.TrimSpace(entry), "#") // "#effective:r--"
		if entry == "" {
			continue
		}
		fields := strings.Split(strings.TrimPrefix(strings.TrimSpace(entry), "default:"), ":")
		if len(fields) < 2 {
			return nil, fmt.Errorf("%q is no entry of a list", entry)
		}
		if len(fields) == 2 { // "mask:rwx", "other:r-x"
			fields = []string{fields[0], "", fields[1]}
		}
		bit, err := r.addText(fields, ids)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		seen |= bit
	}
	return r.whole(seen)
}

// addText adds an entry of the fields kind, who, permissions and perhaps his number.
func (r *rights) addText(fields []string, ids *inode.IDs) (tag int, err error) {
	perm, err := parsePerm(fields[2])
	if err != nil {
		return 0, err
	}
	kind, who := fields[0], fields[1]
	if who == "" {
		tags := map[string]int{
			"user": tagUserObj, "u": tagUserObj, "group": tagGroupObj, "g": tagGroupObj,
			"mask": tagMask, "m": tagMask, "other": tagOther, "o": tagOther,
		}
		return tags[kind], r.set(tags[kind], catar.ACLEntry{Perm: perm})
	}
	a, tag := catar.ACLEntry{Perm: perm}, tagUser
	lookUp := ids.User
	if kind == "group" || kind == "g" {
		tag, lookUp = tagGroup, ids.Group
	} else if kind != "user" && kind != "u" {
		return 0, errACL
	}
	if _, err := strconv.ParseUint(who, 10, 32); err != nil {
		a.Name = who
	}
	if len(fields) > 3 {
		id, err := strconv.ParseUint(fields[3], 10, 32)
		a.ID = uint32(id)
		return tag, errors.Join(err, r.set(tag, a))
	}
	id, ok, err := lookUp(who)
	if err == nil && !ok {
		err = errors.New("nobody here has that name")
	}
	a.ID = id
	return tag, errors.Join(err, r.set(tag, a))
}

// parsePerm reads "r-x".
func parsePerm(text string) (uint8, error) {
	perm := uint8(0)
	for _, c := range text {
		bit := strings.IndexRune("xwr", c)
		switch {
		case bit >= 0:
			perm |= 1 << bit
		case c != '-':
			return 0, fmt.Errorf("%q are no permissions", text)
		}
	}
	return perm, nil
}

// The kernel passes a list as the value of an extended attribute: a version, then
// eight bytes for each entry: tag, permissions, id.
const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8

	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

var errACL = errors.New("not an access control list")

// parseACL reads the attribute's value.
func parseACL(b []byte) (*rights, error) {
	if len(b) < aclHeader || (len(b)-aclHeader)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errACL
	}
	var r rights
	seen := 0
	for b = b[aclHeader:]; len(b) > 0; b = b[aclEntrySize:] {
		tag, perm := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])
		if perm > 7 {
			return nil, errACL
		}
		if err := r.set(tag, catar.ACLEntry{ID: binary.LittleEndian.Uint32(b[4:]), Perm: uint8(perm)}); err != nil {
			return nil, err
		}
		seen |= tag
	}
	return r.whole(seen)
}

// set takes an entry with a tag.
func (r *rights) set(tag int, a catar.ACLEntry) error {
	switch tag {
	case tagUserObj:
		r.userObj = a.Perm
	case tagGroupObj:
		r.groupObj = a.Perm
	case tagOther:
		r.other = a.Perm
	case tagMask:
		r.mask, r.masked = a.Perm, true
	case tagUser:
		r.users = append(r.users, a)
	case tagGroup:
		r.groups = append(r.groups, a)
	default:
		return errACL
	}
	return nil
}

// whole is the list if the tags that it has to have were seen.
func (r *rights) whole(seen int) (*rights, error) {
	const base = tagUserObj | tagGroupObj | tagOther
	if seen&base != base || seen&(tagUser|tagGroup) != 0 && !r.masked {
		return nil, errACL
	}
	for _, list := range [][]catar.ACLEntry{r.users, r.groups} {
		slices.SortFunc(list, func(a, b catar.ACLEntry) int {
			if a.ID != b.ID {
				return int(int64(a.ID) - int64(b.ID))
			}
			return strings.Compare(a.Name, b.Name)
		})
		for i := range list {
			if catar.NoOwner(list[i].ID) {
				return nil, fmt.Errorf("names %d, which means nobody", list[i].ID)
			}
			if i > 0 && list[i].ID == list[i-1].ID {
				return nil, fmt.Errorf("names %d twice", list[i].ID)
			}
		}
	}
	return r, nil
}

// access makes r the access control list of e: a part of it is the mode.
func (r *rights) access(e *catar.Entry) {
	group := r.groupObj
	if r.masked {
		group = r.mask
		e.ACL = &catar.ACL{Users: r.users, Groups: r.groups, Masked: true, GroupObj: r.groupObj}
	}
	e.Mode = e.Mode&^0o777 | uint32(r.userObj)<<6 | uint32(group)<<3 | uint32(r.other)
}

// inherited is r as a default list.
func (r *rights) inherited() *catar.DefaultACL {
	return &catar.DefaultACL{
		UserObj: r.userObj, GroupObj: r.groupObj, Other: r.other,
		Masked: r.masked, Mask: r.mask, Users: r.users, Groups: r.groups,
	}
}

// text is the list as text: numbers in the place of names that there are
// not, and behind the permissions for those who do not know a name.
func (r *rights) text() string {
	var b strings.Builder
	add := func(kind, who string, perm uint8, id string) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(kind + ":" + who + ":")
		for i, c := range "rwx" {
			if perm&(4>>i) == 0 {
				c = '-'
			}
			b.WriteRune(c)
		}
		b.WriteString(id)
	}
	named := func(kind string, list []catar.ACLEntry) {
		for _, a := range list {
			id := strconv.FormatUint(uint64(a.ID), 10)
			who := a.Name
			if who == "" {
				who = id
			}
			add(kind, who, a.Perm, ":"+id)
		}
	}
	add("user", "", r.userObj, "")
	named("user", r.users)
	add("group", "", r.groupObj, "")
	named("group", r.groups)
	if r.masked {
		add("mask", "", r.mask, "")
	}
	add("other", "", r.other, "")
	return b.String()
}

// accessOf is the access control list of e; nil if the mode says all.
func accessOf(e *catar.Entry) *rights {
	if e.ACL == nil || !e.ACL.Masked {
		return nil
	}
	return &rights{
		userObj: uint8(e.Mode >> 6 & 7), groupObj: e.ACL.GroupObj, other: uint8(e.Mode & 7), mask: uint8(e.Mode >> 3 & 7),
		masked: true, users: e.ACL.Users, groups: e.ACL.Groups,
	}
}

// inheritedOf is the default list of e; nil if it has none.
func inheritedOf(e *catar.Entry) *rights {
	if e.ACL == nil || e.ACL.Default == nil {
		return nil
	}
	d := e.ACL.Default
	return &rights{
		userObj: d.UserObj, groupObj: d.GroupObj, other: d.Other, mask: d.Mask,
		masked: d.Masked, users: d.Users, groups: d.Groups,
	}
}
