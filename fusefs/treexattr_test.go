//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// Requests as linux/fs.h and linux/msdos_fs.h have them.
const (
	ioRead           = unix.FS_IOC_GETFLAGS >> 30 << 30
	getExtended      = ioRead | 28<<16 | 'X'<<8 | 31
	getGeneration    = ioRead | 8<<16 | 'v'<<8 | 1
	fatGetAttributes = ioRead | 4<<16 | 'r'<<8 | 0x10
)

// capability is a value of security.capability: cap_net_raw+ep.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func getxattr(path, name string) (string, error) {
	buf := make([]byte, 70000)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return "", err
	}
	if size, err := unix.Lgetxattr(path, name, nil); err != nil || size != n {
		return "", fmt.Errorf("%d bytes, then %d: %v", n, size, err)
	}
	if n > 1 {
		if _, err := unix.Lgetxattr(path, name, buf[:n-1]); err != unix.ERANGE {
			return "", fmt.Errorf("into too few bytes: %v", err)
		}
	}
	return string(buf[:n]), nil
}

func listxattr(path string) ([]string, error) {
	buf := make([]byte, 70000)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	if size, err := unix.Llistxattr(path, nil); err != nil || size != n {
		return nil, fmt.Errorf("%d bytes, then %d: %v", n, size, err)
	}
	return strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }), nil
}

func TestTreeXAttrs(t *testing.T) {
	needRoot(t) // for trusted attributes
	big := bytes.Repeat([]byte{'x'}, 65536)
	tr := newFakeTree(best)
	tr.add(tree.Root, "file", catar.Entry{
		Mode: unix.S_IFREG | 0o644,
		XAttrs: []catar.XAttr{
			{Name: "security.evil", Value: []byte("v")}, // desync writes such ones: not to be believed
			{Name: "trusted.t", Value: []byte("of\x00root")}, {Name: "user.big", Value: big},
			{Name: "user.empty"}, {Name: "user.n", Value: []byte{0xff, 0}},
		},
		FCaps: capability, SELinux: "system_u:object_r:bin_t:s0",
	})
	tr.add(tree.Root, "link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: "file", SELinux: "l"})
	tr.add(tree.Root, "plain", catar.Entry{Mode: unix.S_IFREG | 0o644, Flags: feature.NoAtime})
	m := mountedTree(t, tr, fusefs.Options{})

	for path, want := range map[string]map[string]string{
		"/file": {
			"security.capability": string(capability), "security.selinux": "system_u:object_r:bin_t:s0",
			"trusted.t": "of\x00root", "user.big": string(big), "user.empty": "", "user.n": "\xff\x00",
		},
		"/link":  {"security.selinux": "l"},
		"/plain": {},
		"":       {},
	} {
		names, err := listxattr(m.Dir + path)
		if err != nil || len(names) != len(want) {
			t.Errorf("%s: %q, %v", path, names, err)
		}
		for _, name := range names {
			value, ok := want[name]
			if got, err := getxattr(m.Dir+path, name); !ok || err != nil || got != value {
				t.Errorf("%s: %s: %.20q, %v", path, name, got, err)
			}
		}
	}
	for _, name := range []string{"user.none", "trusted.n", "security.evil", "security.ima", "system.posix_acl_access"} {
		asked := tr.count("entry")
		if _, err := getxattr(m.Dir+"/file", name); err != unix.ENODATA {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "security.") && tr.count("entry") != asked {
			t.Errorf("%s: the entry was read", name) // the kernel asks for such ones all the time
		}
	}
	asked := tr.count("entry")
	if _, err := getxattr(m.Dir+"/plain", "user.n"); err != unix.ENODATA || tr.count("entry") != asked {
		t.Errorf("plain: %v, the entry was read %d times", err, tr.count("entry")-asked)
	}
	if _, err := getxattr(m.Dir+"/link", "user.n"); err != unix.ENODATA && err != unix.EPERM {
		t.Errorf("of a link: %v", err)
	}
}

// The kernel would list trusted attributes to everybody.
func TestTreeXAttrsOfRoot(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "getfattr")
	tr := newFakeTree(best)
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o644, XAttrs: []catar.XAttr{
		{Name: "trusted.t", Value: []byte("t")}, {Name: "user.u", Value: []byte("u")},
	}})
	m := mountedTree(t, tr, fusefs.Options{})
	opened(t, m.Dir)
	list := []string{"getfattr", "--absolute-names", "-d", "-m", "-", m.Dir + "/file"}
	if out := run(t, list[0], list[1:]...); !strings.Contains(out, `trusted.t="t"`) || !strings.Contains(out, `user.u="u"`) {
		t.Errorf("root sees %q", out)
	}
	out := run(t, "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups"}, list...)...)
	if strings.Contains(out, "trusted") || !strings.Contains(out, `user.u="u"`) {
		t.Errorf("nobody sees %q", out)
	}
}

// If an archive keeps no attributes the kernel asks for none.
func TestTreeNoXAttrs(t *testing.T) {
	tr := newFakeTree(feature.Unix)
	tr.file(tree.Root, "file", 1)
	m := mountedTree(t, tr, fusefs.Options{})
	if _, err := getxattr(m.Dir+"/file", "user.n"); err != unix.EOPNOTSUPP {
		t.Error(err)
	}
	if names, err := listxattr(m.Dir + "/file"); err == nil && len(names) > 0 || err != nil && err != unix.EOPNOTSUPP {
		t.Error(names, err)
	}
}

// Where there are attributes in no entry, each lists none: that there is no such thing
// would make tar complain of each.
func TestTreeListsNoXAttrs(t *testing.T) {
	tr := newFakeTree(best)
	tr.file(tree.Root, "file", 1)
	tr.known = true
	m := mountedTree(t, tr, fusefs.Options{})
	for range 2 {
		if _, err := getxattr(m.Dir+"/file", "user.n"); err != unix.EOPNOTSUPP {
			t.Error(err)
		}
		if names, err := listxattr(m.Dir + "/file"); err != nil || len(names) > 0 {
			t.Error(names, err)
		}
	}
}

func acls() *catar.ACL {
	return &catar.ACL{
		Users:    []catar.ACLEntry{{ID: 7, Perm: 6}, {ID: 4_000_000_000, Perm: 4}},
		Groups:   []catar.ACLEntry{{ID: 65534, Perm: 4}},
		Masked:   true,
		GroupObj: 1,
	}
}

func TestTreeACLs(t *testing.T) {
	needRoot(t)
	need(t, "getfacl")
	tr := newFakeTree(best)
	dir := acls()
	dir.Default = &catar.DefaultACL{UserObj: 7, GroupObj: 5, Other: 0, Masked: true, Mask: 5, Groups: []catar.ACLEntry{{ID: 9, Perm: 7}}}
	tr.add(tree.Root, "dir", catar.Entry{Mode: unix.S_IFDIR | 0o770, ACL: dir})
	tr.add(tree.Root, "dirdefault", catar.Entry{Mode: unix.S_IFDIR | 0o755, ACL: &catar.ACL{Default: &catar.DefaultACL{UserObj: 7, GroupObj: 5, Other: 4}}})
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o664, ACL: acls()})
	tr.add(tree.Root, "masked", catar.Entry{Mode: unix.S_IFREG | 0o640, ACL: &catar.ACL{Masked: true, GroupObj: 6}})
	tr.add(tree.Root, "plain", catar.Entry{Mode: unix.S_IFREG | 0o640})
	m := mountedTree(t, tr, fusefs.Options{})
	for name, want := range map[string]string{
		"dir": "user::rwx\nuser:7:rw-\nuser:4000000000:r--\ngroup::--x\ngroup:65534:r--\nmask::rwx\nother::---\n" +
			"default:user::rwx\ndefault:group::r-x\ndefault:group:9:rwx\ndefault:mask::r-x\ndefault:other::---\n",
		"dirdefault": "user::rwx\ngroup::r-x\nother::r-x\ndefault:user::rwx\ndefault:group::r-x\ndefault:other::r--\n",
		"file":       "user::rw-\nuser:7:rw-\nuser:4000000000:r--\ngroup::--x\ngroup:65534:r--\nmask::rw-\nother::r--\n",
		"masked":     "user::rw-\ngroup::rw-\nmask::r--\nother::---\n",
		"plain":      "user::rw-\ngroup::r--\nother::---\n",
	} {
		if got := run(t, "getfacl", "-cnEp", m.Dir+"/"+name); strings.TrimRight(got, "\n")+"\n" != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		names, err := listxattr(m.Dir + "/" + name)
		if listed := slices.Contains(names, "system.posix_acl_access"); err != nil || listed != strings.Contains(want, "mask::") {
			t.Errorf("%s: %q, %v", name, names, err)
		}
	}
}

// The mode of an entry with a mask says less than its list: who may what is
// for the list to say.
func TestTreeACLsCount(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "cat")
	tr := newFakeTree(best)
	a := acls()
	a.GroupObj = 0
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o660, GID: 4242, ACL: a, Size: 3})
	m := mountedTree(t, tr, fusefs.Options{})
	opened(t, m.Dir)
	for who, allowed := range map[[2]string]bool{
		{"7", "7"}: true, {"8", "8"}: false, {"8", "4242"}: false, {"8", "65534"}: true, {"4000000000", "4242"}: true,
	} {
		err := exec.Command("setpriv", "--reuid="+who[0], "--regid="+who[1], "--clear-groups", "cat", m.Dir+"/file").Run()
		if (err == nil) != allowed {
			t.Errorf("%v: %v", who, err)
		}
	}
}

func TestTreeChattr(t *testing.T) {
	const all = feature.Append | feature.NoAtime | feature.Compr | feature.NoCOW | feature.NoDump | feature.DirSync |
		feature.Immutable | feature.Sync | feature.NoComp | feature.ProjInherit
	tr := newFakeTree(feature.Chattr | feature.FATAttrs | feature.QuotaProjID | feature.UID32)
	tr.add(tree.Root, "dir", catar.Entry{Mode: unix.S_IFDIR | 0o755, Flags: feature.DirSync | feature.System, ProjID: 7})
	tr.add(tree.Root, "fifo", catar.Entry{Mode: unix.S_IFIFO | 0o644})
	tr.add(tree.Root, "file", catar.Entry{Mode: unix.S_IFREG | 0o644, Flags: all | feature.FATAttrs, ProjID: 1<<32 - 1})
	tr.add(tree.Root, "plain", catar.Entry{Mode: unix.S_IFREG | 0o644})
	m := mountedTree(t, tr, fusefs.Options{})
	for _, tt := range []struct {
		name                       string
		flags, fat, xflags, projid uint32
	}{
		{"dir", 0x10000, 4, 0, 7},
		{"file", 0x20 | 0x80 | 0x4 | 0x800000 | 0x40 | 0x10000 | 0x10 | 0x8 | 0x400 | 0x20000000, 0x26, 0x10 | 0x40 | 0x80 | 0x8 | 0x20 | 0x200, 1<<32 - 1},
		{"plain", 0, 0, 0, 0},
		{"", 0, 0, 0, 0},
	} {
		fd, err := unix.Open(m.Dir+"/"+tt.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err != nil || got != tt.flags {
			t.Errorf("%s: flags %#x, %v; want %#x", tt.name, got, err, tt.flags)
		}
		if got, err := unix.IoctlGetUint32(fd, fatGetAttributes); err != nil || got != tt.fat {
			t.Errorf("%s: FAT %#x, %v; want %#x", tt.name, got, err, tt.fat)
		}
		var x [28]byte
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getExtended, uintptr(unsafe.Pointer(&x)))
		xflags, projid := binary.NativeEndian.Uint32(x[:]), binary.NativeEndian.Uint32(x[12:])
		if errno != 0 || xflags != tt.xflags || projid != tt.projid {
			t.Errorf("%s: extended %#x, project %d, %v; want %#x, %d", tt.name, xflags, projid, errno, tt.xflags, tt.projid)
		}
		if _, err := unix.IoctlGetUint32(fd, getGeneration); err != unix.ENOTTY {
			t.Errorf("%s: generation: %v", tt.name, err)
		}
		unix.Close(fd)
	}
}

// What an archive does not keep is not answered with nothing.
func TestTreeNoChattr(t *testing.T) {
	tr := newFakeTree(feature.Unix)
	tr.file(tree.Root, "file", 1)
	m := mountedTree(t, tr, fusefs.Options{})
	fd, err := unix.Open(m.Dir+"/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, request := range []uint{unix.FS_IOC_GETFLAGS, fatGetAttributes} {
		if _, err := unix.IoctlGetUint32(fd, request); err != unix.ENOTTY {
			t.Errorf("%#x: %v", request, err)
		}
	}
}

func TestTreeEntryFails(t *testing.T) {
	var good atomic.Bool
	tr := newFakeTree(best)
	tr.add(tree.Root, "file", catar.Entry{
		Mode: unix.S_IFREG | 0o644, XAttrs: []catar.XAttr{{Name: "user.n", Value: []byte("v")}}, Flags: feature.NoAtime,
	})
	tr.add(tree.Root, "link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: "file"})
	tr.before = func(_ context.Context, op string, _ tree.ID, _ string) error {
		if !good.Load() && (op == "entry" || op == "target") {
			return errors.New("chunk 1a2b: digest mismatch")
		}
		return nil
	}
	m := mountedTree(t, tr, fusefs.Options{})
	fd, err := unix.Open(m.Dir+"/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, want := range []error{syscall.EIO, nil} {
		_, get := getxattr(m.Dir+"/file", "user.n")
		_, list := listxattr(m.Dir + "/file")
		_, ioctl := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		_, link := unix.Readlink(m.Dir+"/link", make([]byte, 10))
		for what, err := range map[string]error{"getxattr": get, "listxattr": list, "ioctl": ioctl, "readlink": link} {
			if err != want {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		good.Store(true)
	}
}
