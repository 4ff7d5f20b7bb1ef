package tarball

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"caravel/catar"
	"caravel/catar/inode"
)

// The records of PAX headers that say of a node what tar's own fields do not.
const (
	schilyXAttr     = "SCHILY.xattr."     // star, GNU tar, and most others: the value as it is
	libarchiveXAttr = "LIBARCHIVE.xattr." // bsdtar: the name as in a URL, the value in base64
	aclAccess       = "SCHILY.acl.access"
	aclDefault      = "SCHILY.acl.default"
	fileFlags       = "SCHILY.fflags"
	gnuSELinux      = "RHT.security.selinux"
)

// The attributes of Linux that archives have fields for.
const (
	xattrAccess  = "system.posix_acl_access"
	xattrDefault = "system.posix_acl_default"
	xattrFCaps   = "security.capability"
	xattrSELinux = "security.selinux"
)

// unsaid are records that say nothing which an archive could keep or lack: what tar's
// own fields say already, other times than the one that archives have, and how the
// stream was made.
var unsaid = []string{
	"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "comment", "charset", "hdrcharset",
	"LIBARCHIVE.creationtime", "LIBARCHIVE.symlinktype", "SCHILY.dev", "SCHILY.ino", "SCHILY.nlink", "SCHILY.realsize",
	"SCHILY.devmajor", "SCHILY.devminor", "SCHILY.filetype", "SCHILY.volhdr.dumpdate", "SCHILY.archtype", "SCHILY.release",
}

// records takes from a member's records what an archive keeps.
func (m *Member) records(records map[string]string, ids *inode.IDs) {
	attrs, texts := map[string]string{}, map[string]string{}
	libarchive := false
	unread := map[string]string{}                           // attributes of bsdtar, by their names as far as these can be read
	for _, key := range slices.Sorted(maps.Keys(records)) { // LIBARCHIVE before SCHILY
		value := records[key]
		name, isSchily := strings.CutPrefix(key, schilyXAttr)
		coded, isLibarchive := strings.CutPrefix(key, libarchiveXAttr)
		switch {
		case isLibarchive:
			libarchive = true
			name, plain, err := decodeLibarchive(coded, value)
			if err != nil {
				unread[name] = coded
				continue
			}
			attrs[name] = plain
		case isSchily && libarchive: // where a name has a = in it, this is another one's
			if _, both := unread[name]; both {
				attrs[name] = value
			}
		case isSchily:
			attrs[decodeGNU.Replace(name)] = value
		case key == aclAccess, key == aclDefault, key == fileFlags, key == gnuSELinux:
			texts[key] = value
		case slices.Contains(unsaid, key), strings.HasPrefix(key, "GNU.sparse."):
		default:
			m.lose("record %q", key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unread)) {
		if _, both := attrs[name]; !both {
			m.lose("attribute %q, which cannot be read", unread[name])
		}
	}
	m.attributes(attrs, texts)
	m.lists(attrs, texts, ids)
	m.fileFlags(texts[fileFlags])
}

func (m *Member) lose(format string, a ...any) { m.Lost = append(m.Lost, fmt.Sprintf(format, a...)) }

// decodeGNU undoes what GNU tar does to attributes' names: a record's name has no "=".
var decodeGNU = strings.NewReplacer("%3D", "=", "%25", "%")

func decodeLibarchive(name, value string) (string, string, error) {
	plainName, err := url.PathUnescape(name)
	if err != nil {
		return name, "", err
	}
	// With padding or without, depending on the version.
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	return plainName, string(plain), err
}

// attributes keeps extended attributes but for access control lists.
func (m *Member) attributes(attrs, texts map[string]string) {
	label := attrs[xattrSELinux]
	if label == "" {
		label = texts[gnuSELinux]
	}
	m.SELinux = strings.TrimSuffix(label, "\x00")
	switch {
	case strings.IndexByte(m.SELinux, 0) >= 0:
		m.lose("attribute %q, which has a NUL in it", xattrSELinux)
		m.SELinux = ""
	case len(m.SELinux) > catar.MaxLabel:
		m.lose("attribute %q of %d bytes, above %d", xattrSELinux, len(m.SELinux), catar.MaxLabel)
		m.SELinux = ""
	}
	names := 0 // bytes
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		space, rest, _ := strings.Cut(name, ".")
		has := m.IsRegular() || m.IsDir()
		switch {
		case name == xattrSELinux, name == xattrAccess, name == xattrDefault:
		case name == xattrFCaps && m.IsRegular() && value != "" && len(value) <= catar.MaxValue:
			m.FCaps = []byte(value)
		case (space == "user" || space == "trusted") && has && rest != "" && !strings.HasSuffix(rest, ".") &&
			len(name) <= catar.MaxName && len(value) <= catar.MaxValue &&
			strings.IndexByte(name, 0) < 0 && names+len(name)+1 <= catar.MaxXAttrNames:
			names += len(name) + 1
			m.XAttrs = append(m.XAttrs, catar.XAttr{Name: name, Value: []byte(value)})
		default:
			m.lose("attribute %q", name)
		}
	}
}

// lists keeps access control lists: as text, which has names, rather than as the
// kernel has them.
func (m *Member) lists(attrs, texts map[string]string, ids *inode.IDs) {
	parse := func(text, attr string) *rights {
		r, err := (*rights)(nil), error(nil)
		switch {
		case texts[text] != "":
			r, err = parseACLText(texts[text], ids)
		case attrs[attr] != "":
			r, err = parseACL([]byte(attrs[attr]))
		}
		if err != nil {
			m.lose("%s: %v", text, err)
			return nil
		}
		return r
	}
	access, inherited := parse(aclAccess, xattrAccess), parse(aclDefault, xattrDefault)
	if access != nil && m.IsSymlink() || inherited != nil && !m.IsDir() {
		m.lose("an access control list, which a node of its type has not")
		return
	}
	if access != nil {
		access.access(&m.Entry)
	}
	if inherited != nil {
		if m.ACL == nil {
			m.ACL = &catar.ACL{}
		}
		m.ACL.Default = inherited.inherited()
	}
}

// parseTime reads a time of a PAX header: seconds with a fraction, also negative.
func parseTime(s string) (time.Time, error) {
	d, err := time.ParseDuration(s + "s")
	if err != nil || strings.ContainsAny(s, "hmnuµs") {
		return time.Time{}, fmt.Errorf("%q is no time", s)
	}
	return time.Unix(0, 0).Add(d), nil
}
