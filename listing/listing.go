// Package listing prints the entries of an archive as casync does: a line of
// list, a line of mtree, the block of stat (docs/formats.md, section 4.10), and
// as JSON. It does no more than that: it appends text to a slice.
//
//	b = listing.List(b[:0], "usr/bin", 0o40755) // "drwxr-xr-x usr/bin\n"
//
// A path is that of the entry below the root, "" for the root itself.
//
// Two faults of casync are not repeated. Its mtree prints for links, devices,
// FIFOs and sockets the flags of a file that has them all; none are stored, none
// are printed here. And the digest in mtree is called what it is, not by the
// default of the command.
package listing

import (
	"fmt"
	"strconv"
	"time"

	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
)

// List appends the line of an entry: its mode, as ls prints it, and its path.
func List(b []byte, path string, mode uint32) []byte {
	b = appendMode(b, mode)
	b = append(b, ' ')
	b = AppendPath(b, path)
	return append(b, '\n')
}

// MTree appends the line of an entry in mtree(5)'s words. f are the flags of
// its archive. digest is that of a regular file's payload, by the algorithm that
// the flags name; it is not looked at for others.
func MTree(b []byte, path string, n *catar.Node, f feature.Flags, digest chunker.ID) []byte {
	b = AppendPath(b, path)
	b = fmt.Appendf(b, " type=%s mode=%04o", kindOf(n.Mode).word, n.Mode&0o7777)
	switch n.Mode & catar.ModeType {
	case catar.ModeRegular:
		b = append(b, " size="...)
		b = strconv.AppendInt(b, n.Size, 10)
	case catar.ModeLink:
		b = append(b, " link="...)
		b = appendEscaped(b, n.Target)
	case catar.ModeChar, catar.ModeBlock:
		b = fmt.Appendf(b, " device=linux,%d,%d", n.Major, n.Minor)
	}
	if f&feature.UIDs != 0 {
		b = fmt.Appendf(b, " uid=%d gid=%d", n.UID, n.GID)
	}
	if user := ownerName(n.User, n.UID, f); user != "" {
		b = append(b, " uname="...)
		b = appendEscaped(b, user)
	}
	if group := ownerName(n.Group, n.GID, f); group != "" {
		b = append(b, " gname="...)
		b = appendEscaped(b, group)
	}
	b = appendMTreeFlags(b, n, f)
	if f&feature.Times != 0 {
		sec, nsec := clock(n.MTime)
		b = fmt.Appendf(b, " time=%d.%09d", sec, nsec)
	}
	if n.Mode&catar.ModeType == catar.ModeRegular {
		b = append(b, digestWord(f)...)
		b = append(b, digest.String()...)
	}
	return append(b, '\n')
}

// Details is what stat prints of an entry beyond its records.
type Details struct {
	Flags  feature.Flags  // of the archive
	Digest chunker.ID     // of a regular file's payload; of any other node that of no bytes
	Link   chunker.ID     // casync's hard-link digest: of all but the name; not of a directory
	ProjID bool           // the project is known, although it is 0
	Zone   *time.Location // of the time; nil: UTC
}

// Stat appends the block of an entry.
func Stat(b []byte, path string, n *catar.Node, d Details) []byte {
	b = append(b, "    File: "...)
	b = AppendPath(b, path)
	b = append(b, "\n    Mode: "...)
	b = appendMode(b, n.Mode)
	b = append(b, '\n')
	kind := n.Mode & catar.ModeType
	if kind == catar.ModeDir || kind == catar.ModeRegular {
		b = append(b, "FileAttr: "...)
		b = appendLetters(b, n.Flags, chattrLetters[:])
		b = append(b, "\n FATAttr: "...)
		b = appendLetters(b, n.Flags, fatLetters[:])
		b = append(b, '\n')
	}
	b = fmt.Appendf(b, "  Offset: %d\n", n.Head)
	b = appendTime(b, n.MTime, d)
	if kind == catar.ModeRegular {
		b = fmt.Appendf(b, "    Size: %d\n", n.Size)
	}
	b = appendOwner(b, "    User: ", n.User, n.UID, d.Flags)
	b = appendOwner(b, "   Group: ", n.Group, n.GID, d.Flags)
	if n.ProjID != 0 || d.ProjID {
		b = fmt.Appendf(b, "  ProjID: %d\n", n.ProjID)
	}
	switch kind {
	case catar.ModeLink:
		b = append(b, "  Target: "...)
		b = appendEscaped(b, n.Target)
		b = append(b, '\n')
	case catar.ModeChar, catar.ModeBlock:
		b = fmt.Appendf(b, "  Device: %d:%d\n", n.Major, n.Minor)
	}
	for _, x := range n.XAttrs {
		b = append(b, "   XAttr: "...)
		b = appendEscaped(b, x.Name)
		b = append(b, " → "...)
		b = appendEscaped(b, x.Value)
		b = append(b, '\n')
	}
	return appendDigests(b, kind, d)
}

// appendDigests appends the last lines of stat. A block device has a digest in
// casync, that of no bytes.
func appendDigests(b []byte, kind uint32, d Details) []byte {
	if kind == catar.ModeDir {
		return b
	}
	if kind == catar.ModeRegular || kind == catar.ModeBlock {
		b = fmt.Appendf(b, "  Digest: %v\n", d.Digest)
	}
	return fmt.Appendf(b, "HLDigest: %v\n", d.Link)
}

func appendTime(b []byte, mtime int64, d Details) []byte {
	if d.Flags&feature.Times == 0 {
		return b
	}
	zone := d.Zone
	if zone == nil {
		zone = time.UTC
	}
	sec, nsec := clock(mtime)
	b = append(b, "    Time: "...)
	b = time.Unix(int64(sec), 0).In(zone).AppendFormat(b, time.DateTime)
	return fmt.Appendf(b, ".%09d\n", nsec)
}

func appendOwner(b []byte, label, name string, id uint32, f feature.Flags) []byte {
	name = ownerName(name, id, f)
	hasID := f&feature.UIDs != 0
	if name == "" && !hasID {
		return b
	}
	b = append(b, label...)
	b = appendEscaped(b, name)
	switch {
	case hasID && name != "":
		b = fmt.Appendf(b, " (%d)", id)
	case hasID:
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return append(b, '\n')
}

// ownerName is the name of a user or group. Archives leave out root's.
func ownerName(name string, id uint32, f feature.Flags) string {
	switch {
	case f&feature.UserNames == 0:
		return ""
	case name == "" && id == 0:
		return "root"
	}
	return name
}

// clock splits a time as casync does, to whom times before 1970 are those after
// 2554.
func clock(mtime int64) (sec, nsec uint64) {
	const second = uint64(time.Second)
	return uint64(mtime) / second, uint64(mtime) % second
}

func digestWord(f feature.Flags) string {
	if f.Digest() == chunker.SHA256 {
		return " sha256digest="
	}
	return " sha512256digest="
}
