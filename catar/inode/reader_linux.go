package inode

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// A Reader reads entries. Its methods may be called from many goroutines.
type Reader struct {
	flags    feature.Flags
	names    names
	systems  filesystems
	labelled func() bool
}

// NewReader returns a Reader of what the flags f keep.
func NewReader(f feature.Flags) *Reader {
	return &Reader{
		flags:    f,
		names:    newNames("/etc/passwd", "/etc/group"),
		labelled: sync.OnceValue(labelled),
	}
}

// Entry reads the node that fd is open on: a regular file or directory opened
// for reading, all others with O_PATH|O_NOFOLLOW. st is its statx, with at
// least the basic stats. Mode, UID, GID, MTime, Size, and what belongs to
// a link or device are always there and as they are; all else is what the
// flags keep of it. What the file system does not know is left out.
func (r *Reader) Entry(fd int, st *unix.Statx_t) (*catar.Entry, error) {
	e, err := r.entry(fd, st)
	if err != nil {
		return nil, fmt.Errorf("inode: %w", err)
	}
	return e, nil
}

func (r *Reader) entry(fd int, st *unix.Statx_t) (*catar.Entry, error) {
	n, err := newNode(fd, st, &r.systems)
	if err != nil {
		return nil, err
	}
	e := &catar.Entry{Mode: uint32(st.Mode) & (unix.S_IFMT | 0o7777), UID: st.Uid, GID: st.Gid}
	if e.MTime, err = nanoseconds(st.Mtime); err != nil {
		return nil, err
	}
	switch n.typ {
	case unix.S_IFREG:
		e.Size = int64(st.Size)
	case unix.S_IFLNK:
		e.Mode = unix.S_IFLNK | 0o777
		if e.Target, err = target(fd); err != nil {
			return nil, err
		}
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Major, e.Minor = st.Rdev_major, st.Rdev_minor
	}
	if err := r.owners(e); err != nil {
		return nil, err
	}
	if n.opened() {
		if err := r.attributes(&n, e); err != nil {
			return nil, err
		}
	}
	return e, r.extended(&n, e)
}

// nanoseconds is the time since 1970, as far as 64 bits go: 1677 to 2262.
func nanoseconds(t unix.StatxTimestamp) (int64, error) {
	const second = 1_000_000_000
	if t.Sec < math.MinInt64/second+1 || t.Sec > math.MaxInt64/second-1 {
		return 0, fmt.Errorf("a time %d seconds from 1970 cannot be kept", t.Sec)
	}
	return t.Sec*second + int64(t.Nsec), nil
}

// target reads where the symbolic link fd leads.
func target(fd int) (string, error) {
	var buf [catar.MaxTarget + 1]byte
	n, err := retry(func() (int, error) { return unix.Readlinkat(fd, "", buf[:]) })
	if err != nil {
		return "", fmt.Errorf("reading the link: %w", err)
	}
	return string(buf[:n]), nil
}

// owners puts in the names of the owner and the group.
func (r *Reader) owners(e *catar.Entry) (err error) {
	if r.flags&feature.UserNames == 0 {
		return nil
	}
	if e.User, err = r.nameOf("user", r.names.users, e.UID); err != nil {
		return err
	}
	if e.Group, err = r.nameOf("group", r.names.groups, e.GID); err != nil {
		return err
	}
	if r.flags&feature.UIDs == 0 && (e.User == "" || e.Group == "") {
		return errors.New("owned by root, for whom archives have no name; keep numbers as well (--with=32bit-uids)")
	}
	return nil
}

// nameOf is the name of a user or group as readers take it; "": they go by the
// number.
func (r *Reader) nameOf(kind string, who func() (*roll, error), id uint32) (string, error) {
	if id == 0 {
		return "", nil
	}
	all, err := who()
	if err != nil {
		return "", err
	}
	name := all.byID[id]
	switch {
	case storable(name):
		return name, nil
	case r.flags&feature.UIDs != 0:
		return "", nil
	case name == "":
		return "", fmt.Errorf("%s %d has no name; keep numbers as well (--with=32bit-uids)", kind, id)
	}
	return "", fmt.Errorf("%s %d has a name that archives cannot hold, %q; keep numbers as well (--with=32bit-uids)",
		kind, id, name)
}

// attributes reads what only files and directories have.
func (r *Reader) attributes(n *node, e *catar.Entry) error {
	if r.flags&feature.Chattr != 0 {
		v, err := n.flagsOf()
		if err != nil {
			return fmt.Errorf("reading its flags: %w", err)
		}
		e.Flags |= fromKernel(chattr[:], v) & r.flags
	}
	if r.flags&feature.FATAttrs != 0 {
		v, err := n.fatOf()
		if err != nil {
			return fmt.Errorf("reading its FAT attributes: %w", err)
		}
		e.Flags |= fromKernel(fat[:], v) & r.flags
	}
	if r.flags&feature.QuotaProjID != 0 {
		v, err := n.projectOf()
		if err != nil {
			return fmt.Errorf("reading its quota project: %w", err)
		}
		e.ProjID = v
	}
	if r.flags&feature.Subvolume != 0 && n.typ == unix.S_IFDIR {
		v, err := n.subvolumeOf()
		if err != nil {
			return fmt.Errorf("reading the subvolume's flags: %w", err)
		}
		e.Flags |= v & r.flags
	}
	return nil
}

// extended reads what is kept in extended attributes.
func (r *Reader) extended(n *node, e *catar.Entry) error {
	wanted := feature.SELinux // of a link, which has no others
	if n.typ != unix.S_IFLNK {
		wanted |= feature.ACL
	}
	if n.opened() {
		wanted |= feature.XAttrs | feature.FCaps
	}
	wanted &= r.flags
	if wanted == 0 {
		return nil
	}
	has, err := n.attributes(wanted&feature.SELinux != 0 && r.labelled())
	if err != nil {
		return err
	}
	if wanted&feature.XAttrs != 0 && len(has.plain) > 0 {
		if e.XAttrs, err = n.plainXAttrs(has.plain); err != nil {
			return err
		}
	}
	if wanted&feature.ACL != 0 && (has.access || has.defaults) {
		if e.ACL, err = r.acl(n, has); err != nil {
			return err
		}
	}
	if wanted&feature.SELinux != 0 && has.label {
		v, err := n.xattr(label)
		if err != nil {
			return fmt.Errorf("reading %s: %w", label, err)
		}
		v, _, _ = bytes.Cut(v, []byte{0})
		e.SELinux = string(v)
	}
	if wanted&feature.FCaps != 0 && has.capability && n.typ == unix.S_IFREG {
		if e.FCaps, err = n.xattr(capability); err != nil {
			return fmt.Errorf("reading %s: %w", capability, err)
		}
	}
	return nil
}

// plainXAttrs reads the attributes of these names. What went missing since they
// were listed is left out.
func (n *node) plainXAttrs(named []string) ([]catar.XAttr, error) {
	slices.Sort(named)
	all := make([]catar.XAttr, 0, len(named))
	for _, name := range slices.Compact(named) {
		v, err := n.xattr(name)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", name, err)
		}
		if v != nil {
			all = append(all, catar.XAttr{Name: name, Value: v})
		}
	}
	return all, nil
}

// acl reads both lists; nil: they say no more than the mode.
func (r *Reader) acl(n *node, has list) (*catar.ACL, error) {
	var acl catar.ACL
	if has.access {
		v, err := r.rights(n, accessACL)
		if err != nil {
			return nil, err
		}
		if v != nil && v.masked {
			// The entries need a mask to be there.
			acl.Users, acl.Groups = v.users, v.groups
			acl.Masked, acl.GroupObj = true, v.groupObj
		}
	}
	if has.defaults {
		v, err := r.rights(n, defaultACL)
		if err != nil {
			return nil, err
		}
		if v != nil {
			acl.Default = &catar.DefaultACL{
				UserObj: v.userObj, GroupObj: v.groupObj, Other: v.other,
				Masked: v.masked, Mask: v.mask,
				Users: v.users, Groups: v.groups,
			}
		}
	}
	if !acl.Masked && acl.Default == nil {
		return nil, nil
	}
	return &acl, nil
}

// rights reads one list; nil: there is none.
func (r *Reader) rights(n *node, attribute string) (*rights, error) {
	b, err := n.xattr(attribute)
	if b == nil || err != nil {
		return nil, wrap("reading "+attribute, err)
	}
	v, err := parseACL(b)
	if err != nil {
		return nil, wrap("reading "+attribute, err)
	}
	if err := r.named("user", r.names.users, v.users); err != nil {
		return nil, err
	}
	return v, r.named("group", r.names.groups, v.groups)
}

// named puts in the names of the entries, and sorts them.
func (r *Reader) named(kind string, who func() (*roll, error), all []catar.ACLEntry) (err error) {
	if r.flags&feature.UserNames != 0 {
		for i := range all {
			if all[i].Name, err = r.nameOf(kind, who, all[i].ID); err != nil {
				return wrap("access control list", err)
			}
		}
	}
	sortACL(all)
	return nil
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// NoDump reports whether the file or directory fd has chattr's +d. Most file
// systems say that in st.
func (r *Reader) NoDump(fd int, st *unix.Statx_t) (bool, error) {
	if st.Attributes_mask&unix.STATX_ATTR_NODUMP != 0 {
		return st.Attributes&unix.STATX_ATTR_NODUMP != 0, nil
	}
	n, err := newNode(fd, st, &r.systems)
	if err != nil {
		return false, fmt.Errorf("inode: %w", err)
	}
	if !n.opened() {
		return false, nil
	}
	v, err := n.flagsOf()
	if err != nil {
		return false, fmt.Errorf("inode: reading its flags: %w", err)
	}
	return fromKernel(chattr[:], v)&feature.NoDump != 0, nil
}
