package listing

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
)

// An Entry is an entry as JSON. What its archive does not keep is left out.
type Entry struct {
	Path      string `json:"path"`
	PathBytes []byte `json:"path_bytes,omitempty"` // if that is no UTF-8; base64
	Type      string `json:"type"`                 // in mtree's words
	Mode      string `json:"mode"`                 // the permissions, octal
	Size      *int64 `json:"size,omitempty"`

	Target      string  `json:"target,omitempty"`
	TargetBytes []byte  `json:"target_bytes,omitempty"` // as PathBytes
	Device      *Device `json:"device,omitempty"`

	UID   *uint32    `json:"uid,omitempty"`
	GID   *uint32    `json:"gid,omitempty"`
	User  string     `json:"user,omitempty"`
	Group string     `json:"group,omitempty"`
	MTime *time.Time `json:"mtime,omitempty"`

	Flags  []string `json:"flags,omitempty"` // by the names of the features
	ProjID uint32   `json:"projid,omitempty"`
	XAttrs []XAttr  `json:"xattrs,omitempty"`

	Offset *int64 `json:"offset,omitempty"` // of the entry in its archive
	Digest string `json:"digest,omitempty"` // of a regular file's payload
	Link   string `json:"hldigest,omitempty"`
}

// A Device is the number of a device node.
type Device struct {
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// An XAttr is an extended attribute; the value is base64.
type XAttr struct {
	Name      string `json:"name"`
	NameBytes []byte `json:"name_bytes,omitempty"` // as PathBytes
	Value     []byte `json:"value"`
}

// Brief is what list says of an entry.
func Brief(path string, mode uint32) *Entry {
	e := &Entry{Type: kindOf(mode).word, Mode: fmt.Sprintf("%04o", mode&0o7777)}
	e.Path, e.PathBytes = Path(path)
	return e
}

// Path is what JSON says of a path: a dot of the root; and its bytes, if it is no UTF-8.
func Path(path string) (text string, all []byte) {
	if path == "" {
		return ".", nil
	}
	return printable(path)
}

// Full is what mtree says of an entry; see [MTree].
func Full(path string, n *catar.Node, f feature.Flags, digest chunker.ID) *Entry {
	e := Brief(path, n.Mode)
	switch n.Mode & catar.ModeType {
	case catar.ModeRegular:
		e.Size, e.Digest = &n.Size, digest.String()
	case catar.ModeLink:
		e.Target, e.TargetBytes = printable(n.Target)
	case catar.ModeChar, catar.ModeBlock:
		e.Device = &Device{n.Major, n.Minor}
	}
	if f&feature.UIDs != 0 {
		e.UID, e.GID = &n.UID, &n.GID
	}
	e.User, e.Group = ownerName(n.User, n.UID, f), ownerName(n.Group, n.GID, f)
	if f&feature.Times != 0 {
		t := time.Unix(0, n.MTime).UTC()
		e.MTime = &t
	}
	if n.Flags != 0 {
		e.Flags = strings.Split(n.Flags.String(), ",")
	}
	return e
}

// Whole is what stat says of an entry; see [Stat].
func Whole(path string, n *catar.Node, d Details) *Entry {
	e := Full(path, n, d.Flags, d.Digest)
	e.Offset, e.ProjID = &n.Head, n.ProjID
	for _, x := range n.XAttrs {
		name, all := printable(x.Name)
		e.XAttrs = append(e.XAttrs, XAttr{name, all, x.Value})
	}
	if n.Mode&catar.ModeType != catar.ModeDir {
		e.Link = d.Link.String()
	}
	return e
}

// printable is s as JSON can hold it, and its bytes if that is not all of it.
func printable(s string) (text string, all []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError)), []byte(s)
}
