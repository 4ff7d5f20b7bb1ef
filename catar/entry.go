package catar

import (
	"cmp"
	"strings"

	"caravel/feature"
)

// The types of nodes in a mode: what Linux's stat(2) calls S_IFMT and so on, on
// every system.
const (
	ModeType    = 0o170000 // the bits that have the type
	ModeSocket  = 0o140000
	ModeLink    = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000

	modePerm = 0o7777
)

// An Entry is a node of a tree with all that an archive may keep of it. Which
// of the fields mean something is said by the archive's feature flags.
type Entry struct {
	Mode   uint32        // type and permissions, as in stat(2): S_IFMT | 07777
	Flags  feature.Flags // of feature.Chattr, FATAttrs, Subvolume and SubvolumeRO those that are set
	UID    uint32
	GID    uint32
	MTime  int64  // nanoseconds since 1970, negative before
	User   string // "": none recorded
	Group  string
	XAttrs []XAttr // sorted by name, bytewise
	ACL    *ACL    // nil: the mode says all

	SELinux string // "": no label
	FCaps   []byte // value of security.capability; nil: none
	ProjID  uint32 // quota project; 0: none

	Size   int64  // bytes of a regular file's payload
	Target string // of a symbolic link
	Major  uint32 // of a device
	Minor  uint32
}

// An XAttr is an extended attribute.
type XAttr struct {
	Name  string // with its namespace
	Value []byte
}

// An ACL is what an access control list says beyond the mode.
type ACL struct {
	Users  []ACLEntry // sorted by ID, nameless before named, Name, Perm
	Groups []ACLEntry

	// Masked says that the list has a mask, which stands in the mode's group
	// bits. GroupObj is then the owning group's own permission.
	Masked   bool
	GroupObj uint8 // 4 read, 2 write, 1 execute

	Default *DefaultACL // of a directory; nil: none
}

// An ACLEntry gives one user or group a permission.
type ACLEntry struct {
	ID   uint32
	Perm uint8  // 4 read, 2 write, 1 execute
	Name string // "": none recorded
}

// A DefaultACL is what the children of a directory get.
type DefaultACL struct {
	UserObj, GroupObj, Other uint8

	Masked bool // whether there is a Mask
	Mask   uint8

	Users  []ACLEntry
	Groups []ACLEntry
}

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Mode&ModeType == ModeDir }

// IsRegular reports whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Mode&ModeType == ModeRegular }

// IsSymlink reports whether e is a symbolic link.
func (e *Entry) IsSymlink() bool { return e.Mode&ModeType == ModeLink }

// IsDevice reports whether e is a block or a character device.
func (e *Entry) IsDevice() bool {
	return e.Mode&ModeType == ModeBlock || e.Mode&ModeType == ModeChar
}

// IsFIFO reports whether e is a named pipe.
func (e *Entry) IsFIFO() bool { return e.Mode&ModeType == ModeFIFO }

// IsSocket reports whether e is a socket.
func (e *Entry) IsSocket() bool { return e.Mode&ModeType == ModeSocket }

// kind names the type of e.
func (e *Entry) kind() string {
	switch e.Mode & ModeType {
	case ModeDir:
		return "directory"
	case ModeRegular:
		return "regular file"
	case ModeLink:
		return "symbolic link"
	case ModeBlock, ModeChar:
		return "device"
	case ModeFIFO:
		return "FIFO"
	case ModeSocket:
		return "socket"
	}
	return "node of no known type"
}

// compareACL is the order of the entries of an ACL.
func compareACL(a, b ACLEntry) int {
	return cmp.Or(
		cmp.Compare(a.ID, b.ID),
		strings.Compare(a.Name, b.Name), // "" comes first
		cmp.Compare(a.Perm, b.Perm),
	)
}
