package catar

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"caravel/feature"
)

// refuse is the error for what stands at off.
func refuse(off int64, format string, args ...any) error {
	return fmt.Errorf("catar: offset %d: "+format, append([]any{off}, args...)...)
}

// CheckName refuses what cannot be the name of a child: "", ".", "..", more
// than MaxName bytes, a slash or a NUL in it.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("the name %q is not one of a child", name)
	case len(name) > MaxName:
		return fmt.Errorf("a name of %d bytes, above %d", len(name), MaxName)
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the name %q has a slash or a NUL in it", name)
	}
	return nil
}

// check refuses an entry that an archive with the flags f does not hold. Both
// the encoder and the decoder ask it.
func (e *Entry) check(f feature.Flags) error {
	if err := e.checkFixed(f); err != nil {
		return err
	}
	return e.checkRest(f)
}

// checkFixed looks at what stands in the ENTRY record.
func (e *Entry) checkFixed(f feature.Flags) error {
	if err := e.checkMode(f); err != nil {
		return err
	}
	if kept := keptFlags(e.Flags, e.Mode, f); kept != e.Flags {
		return fmt.Errorf("flags %#x, of which the archive's features keep %#x in a %s",
			uint64(e.Flags), uint64(kept), e.kind())
	}
	if err := checkID(e.UID, f); err != nil {
		return err
	}
	if err := checkID(e.GID, f); err != nil {
		return err
	}
	return checkTime(e.MTime, f)
}

func (e *Entry) checkMode(f feature.Flags) error {
	var needs feature.Flags
	switch e.Mode & ModeType {
	case ModeDir, ModeRegular:
	case ModeLink:
		needs = feature.Symlinks
	case ModeBlock, ModeChar:
		needs = feature.DeviceNodes
	case ModeFIFO:
		needs = feature.FIFOs
	case ModeSocket:
		needs = feature.Sockets
	default:
		return fmt.Errorf("mode %#o has no known type", e.Mode)
	}
	switch kept := keptMode(e.Mode, f); {
	case e.Mode&^(ModeType|modePerm) != 0:
		return fmt.Errorf("mode %#o has bits beyond type and permissions", e.Mode)
	case needs&^f != 0:
		return fmt.Errorf("a %s in an archive without %v", e.kind(), needs)
	case kept != e.Mode:
		return fmt.Errorf("mode %#o, of which the archive's features keep %#o", e.Mode, kept)
	}
	return nil
}

// NoOwner reports whether a user's or group's number means nobody, of which no archive
// has a node.
func NoOwner(id uint32) bool { return id == math.MaxUint16 || id == math.MaxUint32 }

func checkID(id uint32, f feature.Flags) error {
	switch {
	case NoOwner(id):
		return fmt.Errorf("owner %d, which means none", id)
	case f&feature.UIDs == 0 && id != 0:
		return fmt.Errorf("owner %d in an archive without numbers of owners", id)
	case f&feature.UID16 != 0 && id > math.MaxUint16:
		return fmt.Errorf("owner %d, above what 16bit-uids holds", id)
	}
	return nil
}

func checkTime(t int64, f feature.Flags) error {
	if t == -1 {
		return errors.New("time -1 ns, which means none")
	}
	if r := reduceTime(t, f); r != t {
		return fmt.Errorf("time %d ns, of which the archive's features keep %d", t, r)
	}
	return nil
}

// checkRest looks at what has records of its own.
func (e *Entry) checkRest(f feature.Flags) error {
	if err := checkName(e.User, e.UID, f); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	if err := checkName(e.Group, e.GID, f); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if err := e.checkXAttrs(f); err != nil {
		return err
	}
	if err := e.checkACL(f); err != nil {
		return err
	}
	switch {
	case len(e.SELinux) > MaxLabel || strings.IndexByte(e.SELinux, 0) >= 0:
		return fmt.Errorf("SELinux label of %d bytes, above %d or with a NUL in it", len(e.SELinux), MaxLabel)
	case e.FCaps != nil && !e.IsRegular():
		return fmt.Errorf("capabilities of a %s", e.kind())
	case e.FCaps != nil && (len(e.FCaps) == 0 || len(e.FCaps) > MaxValue):
		return fmt.Errorf("capabilities of %d bytes, not 1 to %d", len(e.FCaps), MaxValue)
	case e.ProjID != 0 && !e.IsRegular() && !e.IsDir():
		return fmt.Errorf("project id of a %s", e.kind())
	}
	return e.checkContent()
}

// checkName refuses a name of the owner id that casync would not have written,
// or, being in need of something else, would not read.
func checkName(name string, id uint32, f feature.Flags) error {
	switch {
	case name == "":
		// casync wants a name where no number is stored, but has itself none to
		// give for id 0, so that it cannot read such archives of its own.
		return nil
	case len(name) >= maxOwner:
		return fmt.Errorf("name of %d bytes, above %d", len(name), maxOwner-1)
	case name == "root" && id == 0:
		return errors.New(`name "root", which goes without saying`)
	case f&feature.UIDs == 0 && isNumber(name):
		return nil // of an owner who had no name
	}
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return fmt.Errorf("name %q has %q in it", name, c)
		}
	}
	return nil
}

// isNumber reports whether name is an owner's number, as written in its place.
func isNumber(name string) bool {
	id, err := strconv.ParseUint(name, 10, 32)
	return err == nil && strconv.FormatUint(id, 10) == name &&
		id != 0 && id != math.MaxUint16 && id != math.MaxUint32
}

func (e *Entry) checkXAttrs(f feature.Flags) error {
	if len(e.XAttrs) > 0 && e.IsSymlink() && f != feature.Desync {
		return errors.New("extended attributes of a symbolic link")
	}
	names := 0
	for i, x := range e.XAttrs {
		if err := checkXAttrName(x.Name); err != nil {
			return err
		}
		names += len(x.Name) + 1
		switch {
		case f != feature.Desync && !ownNamespace(x.Name):
			return fmt.Errorf("extended attribute %q is neither of user nor of trusted", x.Name)
		case i > 0 && x.Name == e.XAttrs[i-1].Name:
			return fmt.Errorf("extended attribute %q comes twice", x.Name)
		case i > 0 && x.Name < e.XAttrs[i-1].Name:
			return fmt.Errorf("extended attribute %q comes after %q", x.Name, e.XAttrs[i-1].Name)
		case len(x.Value) > MaxValue:
			return fmt.Errorf("extended attribute %q of %d bytes, above %d", x.Name, len(x.Value), MaxValue)
		case names > MaxXAttrNames:
			return fmt.Errorf("names of extended attributes of more than %d bytes", MaxXAttrNames)
		}
	}
	return nil
}

func checkXAttrName(name string) error {
	dot := strings.IndexByte(name, '.')
	if len(name) > MaxName || dot <= 0 || dot == len(name)-1 || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("extended attribute %q has no valid name", name)
	}
	return nil
}

func (e *Entry) checkACL(f feature.Flags) error {
	a := e.ACL
	if a == nil {
		return nil
	}
	if e.IsSymlink() {
		return errors.New("ACL of a symbolic link")
	}
	if !a.Masked && len(a.Users)+len(a.Groups) > 0 {
		return errors.New("ACL with names but without a mask")
	}
	if err := checkACLEntries(f, a.Users, a.Groups, a.GroupObj); err != nil {
		return err
	}
	d := a.Default
	switch {
	case d == nil:
		return nil
	case !e.IsDir():
		return fmt.Errorf("default ACL of a %s", e.kind())
	case !d.Masked && len(d.Users)+len(d.Groups) > 0:
		return errors.New("default ACL with names but without a mask")
	}
	return checkACLEntries(f, d.Users, d.Groups, d.UserObj, d.GroupObj, d.Other, d.Mask)
}

func checkACLEntries(f feature.Flags, users, groups []ACLEntry, perms ...uint8) error {
	for _, p := range perms {
		if p > 7 {
			return fmt.Errorf("ACL with the permission %#o", p)
		}
	}
	for _, list := range [][]ACLEntry{users, groups} {
		for i, a := range list {
			if err := checkID(a.ID, f); err != nil {
				return fmt.Errorf("ACL: %w", err)
			}
			if err := checkName(a.Name, a.ID, f); err != nil {
				return fmt.Errorf("ACL: %w", err)
			}
			switch {
			case a.Name != "" && f&feature.UserNames == 0:
				return fmt.Errorf("ACL: name %q in an archive without names", a.Name)
			case a.Perm > 7:
				return fmt.Errorf("ACL with the permission %#o", a.Perm)
			case i > 0 && compareACL(list[i-1], a) >= 0:
				return fmt.Errorf("ACL: the entry of %d %q is not in order", a.ID, a.Name)
			}
		}
	}
	return nil
}

// checkContent looks at what a node has in place of metadata.
func (e *Entry) checkContent() error {
	switch {
	case e.Size < 0 || e.Size > maxPayload:
		return fmt.Errorf("payload of %d bytes", uint64(e.Size))
	case e.IsSymlink() && (e.Target == "" || len(e.Target) > MaxTarget || strings.IndexByte(e.Target, 0) >= 0):
		return fmt.Errorf("target of %d bytes, not 1 to %d without a NUL", len(e.Target), MaxTarget)
	case e.Major >= 1<<12 || e.Minor >= 1<<20:
		return fmt.Errorf("device %d:%d, of which the first has 12 bits and the second 20", e.Major, e.Minor)
	}
	return nil
}
