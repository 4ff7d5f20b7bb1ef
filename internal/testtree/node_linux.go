package testtree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

// A node is one of a tree that is being compared.
type node struct {
	st   unix.Statx_t
	fd   int    // of a regular file or directory; else -1
	path string // short, for the calls without a descriptor
}

func openNode(dir int, name string) (*node, error) {
	n := &node{fd: -1, path: name}
	if dir != unix.AT_FDCWD {
		n.path = at(dir, name)
	}
	const what = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, what, &n.st); err != nil {
		return nil, fmt.Errorf("testtree: %q: %w", name, err)
	}
	if k := n.kind(); k != unix.S_IFREG && k != unix.S_IFDIR {
		return n, nil
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("testtree: %q: %w", name, err)
	}
	n.fd = fd
	return n, nil
}

func (n *node) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
}

func (n *node) kind() uint32 { return uint32(n.st.Mode) & unix.S_IFMT }

func (n *node) kindName() string {
	switch n.kind() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "type unknown"
}

// metadata compares what describe says of two nodes.
func (d *differ) metadata(path string, a, b *node) error {
	ofA, err := d.describe(a)
	if err != nil {
		return err
	}
	ofB, err := d.describe(b)
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(ofA))
	for k := range ofA {
		keys = append(keys, k)
	}
	for k := range ofB {
		if _, ok := ofA[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		va, okA := ofA[k]
		vb, okB := ofB[k]
		if va != vb || okA != okB {
			d.says(path, "%s: %s, %s", k, short(va, okA), short(vb, okB))
		}
	}
	return nil
}

// short is a value in a line.
func short(v string, there bool) string {
	switch {
	case !there:
		return "none"
	case len(v) > 200:
		return fmt.Sprintf("%.100q… (%d bytes)", v, len(v))
	}
	return strconv.Quote(v)
}

// describe is what an archive keeps of a node beside its content.
func (d *differ) describe(n *node) (map[string]string, error) {
	f, kind := d.flags, n.kind()
	says := map[string]string{}
	if kind != unix.S_IFLNK {
		says["mode"] = fmt.Sprintf("%04o", d.mode(n))
	}
	if g := int64(f.Granularity()); g > 0 {
		ns := n.st.Mtime.Sec*int64(time.Second) + int64(n.st.Mtime.Nsec)
		says["time"] = time.Unix(0, ns-(ns%g+g)%g).UTC().Format(time.RFC3339Nano)
	}
	d.owner(n, says)
	switch kind {
	case unix.S_IFLNK:
		target, err := os.Readlink(n.path)
		if err != nil {
			return nil, err
		}
		says["target"] = target
	case unix.S_IFCHR, unix.S_IFBLK:
		says["device"] = fmt.Sprintf("%d:%d", n.st.Rdev_major, n.st.Rdev_minor)
	case unix.S_IFREG, unix.S_IFDIR:
		d.attributes(n, says)
		if err := d.xattrs(n, says); err != nil {
			return nil, err
		}
	}
	return says, d.security(n, says)
}

// mode is as much of it as is kept.
func (d *differ) mode(n *node) uint16 {
	mode := n.st.Mode & 0o7777
	switch {
	case d.flags&(feature.Permissions|feature.ACL) != 0:
		if d.flags&(feature.UIDs|feature.UserNames) == 0 && n.kind() != unix.S_IFDIR {
			mode &^= unix.S_ISUID | unix.S_ISGID // nobody knows whose rights they would give
		}
		return mode
	case d.flags&feature.ReadOnly != 0:
		if mode&0o222 != 0 {
			return 0o666
		}
		return 0o444
	}
	return 0
}

// owner tells it by number if numbers are kept, else by name.
func (d *differ) owner(n *node, says map[string]string) {
	uid, gid := strconv.FormatUint(uint64(n.st.Uid), 10), strconv.FormatUint(uint64(n.st.Gid), 10)
	switch {
	case d.flags&feature.UIDs != 0:
	case d.flags&feature.UserNames != 0:
		if u, err := user.LookupId(uid); err == nil {
			uid = u.Username
		}
		if g, err := user.LookupGroupId(gid); err == nil {
			gid = g.Name
		}
	default:
		return
	}
	says["owner"] = uid + ":" + gid
}

// attributes are the flags of a file or directory, and its project.
func (d *differ) attributes(n *node, says map[string]string) {
	if f := d.flags & feature.Chattr; f != 0 {
		says["flags"] = (n.chattr() & f).String()
	}
	if f := d.flags & feature.FATAttrs; f != 0 {
		says["FAT attributes"] = (n.fat() & f).String()
	}
	if f := d.flags & (feature.Subvolume | feature.SubvolumeRO); f != 0 && n.kind() == unix.S_IFDIR {
		says["subvolume"] = (n.subvolume() & f).String()
	}
	if d.flags&feature.QuotaProjID != 0 {
		says["project"] = strconv.FormatUint(uint64(n.project()), 10)
	}
}

// xattrs are those that an archive has as such.
func (d *differ) xattrs(n *node, says map[string]string) error {
	if d.flags&feature.XAttrs == 0 {
		return nil
	}
	names, err := value(func(p []byte) (int, error) { return unix.Flistxattr(n.fd, p) })
	if err != nil {
		return err
	}
	for _, name := range strings.Split(string(names), "\x00") {
		if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") {
			continue
		}
		v, err := n.xattr(name)
		if err != nil {
			return err
		}
		says["xattr "+strconv.Quote(name)] = string(v)
	}
	return nil
}

// security is the access control lists, the capabilities and the label.
func (d *differ) security(n *node, says map[string]string) error {
	kind := n.kind()
	for _, s := range []struct {
		kept bool
		name string
	}{
		{d.flags&feature.ACL != 0 && kind != unix.S_IFLNK, aclAccess},
		{d.flags&feature.ACL != 0 && kind == unix.S_IFDIR, aclDefault},
		{d.flags&feature.FCaps != 0 && kind == unix.S_IFREG, "security.capability"},
		{d.flags&feature.SELinux != 0, "security.selinux"},
	} {
		if !s.kept {
			continue
		}
		v, err := n.xattr(s.name)
		if err != nil {
			return err
		}
		says[s.name] = string(bytes.TrimRight(v, "\x00"))
		if s.name == "security.capability" {
			says[s.name] = string(v)
		}
		if s.name == aclAccess || s.name == aclDefault {
			if says[s.name], err = describeACL(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// xattr reads an attribute; nil if there is none.
func (n *node) xattr(name string) ([]byte, error) {
	v, err := value(func(p []byte) (int, error) { return unix.Lgetxattr(n.path, name, p) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// value calls read with enough room for all there is: mostly little, or nothing.
func value(read func([]byte) (int, error)) ([]byte, error) {
	p := make([]byte, 256)
	n, err := read(p)
	if errors.Is(err, unix.ERANGE) {
		p = make([]byte, 64<<10+1)
		n, err = read(p)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return p[:n], nil
}

// content compares two files' bytes; whether zeros are holes does not count.
func (d *differ) content(path string, a, b *node) error {
	size := int64(a.st.Size)
	if a.st.Size != b.st.Size {
		d.says(path, "size: %d, %d", size, b.st.Size)
		return nil
	}
	const step = 256 << 10
	pa, pb := make([]byte, min(step, size)), make([]byte, min(step, size))
	for off := int64(0); off < size; off += step {
		n := min(step, size-off)
		if err := readAt(a.fd, pa[:n], off); err != nil {
			return fmt.Errorf("testtree: %q: %w", path, err)
		}
		if err := readAt(b.fd, pb[:n], off); err != nil {
			return fmt.Errorf("testtree: %q: %w", path, err)
		}
		if !bytes.Equal(pa[:n], pb[:n]) {
			i := int64(0)
			for pa[i] == pb[i] {
				i++
			}
			d.says(path, "content: differs from byte %d on", off+i)
			return nil
		}
	}
	return nil
}

func readAt(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, off)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
