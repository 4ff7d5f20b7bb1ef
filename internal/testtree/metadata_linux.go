package testtree

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

// at is a short path of a node, whatever the length of its real one. The calls
// on extended attributes have no form relative to a descriptor.
func at(dir int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name) }

// freeze says whether a node may become immutable.
type freeze bool

const (
	noFreeze  freeze = false
	mayFreeze freeze = true
)

// decorate gives a finished node its metadata, in the order in which the later
// does not undo the earlier, and reports whether no more can be done to it.
func (g *generator) decorate(dir int, name string, mode uint32, may freeze) (frozen bool) {
	path := at(dir, name)
	kind := mode & unix.S_IFMT
	if g.Root && (g.Named || g.one(2)) {
		err := unix.Fchownat(dir, name, int(g.id()), int(g.id()), unix.AT_SYMLINK_NOFOLLOW)
		g.tried("chown", err)
	}
	if g.XAttrs && g.one(3) {
		g.xattrs(path, kind)
	}
	if kind != unix.S_IFLNK {
		g.tried("chmod", unix.Fchmodat(dir, name, mode&0o7777, 0))
		if g.ACLs && g.one(3) {
			g.acls(path, mode)
		}
	}
	if g.Root && kind == unix.S_IFREG && g.one(8) {
		g.tried("capability", unix.Lsetxattr(path, "security.capability", g.capability(), 0))
	}
	if g.Root && g.one(6) {
		g.tried("label", unix.Lsetxattr(path, "security.selinux", []byte(pick(g, labels)), 0))
	}
	at := []unix.Timespec{g.time(), g.time()}
	g.tried("time", unix.UtimesNanoAt(dir, name, at, unix.AT_SYMLINK_NOFOLLOW))
	if g.Chattr && (kind == unix.S_IFREG || kind == unix.S_IFDIR) && g.one(3) {
		frozen = g.chattr(dir, name, may)
	}
	return frozen
}

// mode is the type kind with some permissions.
func (g *generator) mode(kind uint32) uint32 {
	mode := pick(g, []uint32{
		0o644, 0o755, 0o600, 0o444, 0o555, 0, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, g.rng.Uint32N(0o10000),
	})
	if g.Root {
		return kind | mode
	}
	// What the user cannot read cannot be packed, or removed after the test.
	mode = mode&0o777 | 0o400
	if kind == unix.S_IFDIR {
		mode |= 0o700
	}
	return kind | mode
}

// namedIDs are those with which this machine has a user as well as a group.
func namedIDs() []uint32 {
	var ids []uint32
	for _, id := range []uint32{1, 2, 7, 33} {
		text := strconv.FormatUint(uint64(id), 10)
		_, errU := user.LookupId(text)
		_, errG := user.LookupGroupId(text)
		if errU == nil && errG == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// id is that of a user or group, with and without a name.
func (g *generator) id() uint32 {
	if g.Named {
		return pick(g, g.named)
	}
	ids := []uint32{0, 0, 1, 2, 7, 33, 1000, 12345, 65533, 65534}
	if !g.ShortIDs {
		ids = append(ids, 65536, 100000, 1<<31, 1<<32-2)
	}
	return pick(g, ids)
}

// The limits of xattrs are the file system's; ext4 has about 4 KiB for all of a
// file's, others 64 KiB for each.
var (
	xattrNames = []string{
		"a", "a-", "a.b", "ab", "b", "empty", "with space", "new\nline", "caf\xe9", "日本", "\xff", "#", "dots..dots",
		"mime_type", "xdg.origin.url", strings.Repeat("n", 250), strings.Repeat("n", 249), strings.Repeat("n", 247),
	}
	xattrSizes = []int{0, 0, 1, 2, 20, 100, 255, 256, 1000, 3000, 20000, 65535, 65536}
)

func (g *generator) xattrs(path string, kind uint32) {
	for range 1 + g.rng.IntN(4) {
		name := "user." + pick(g, xattrNames)
		if g.Root && g.one(4) {
			name = "trusted." + pick(g, xattrNames)
		}
		if g.Root && g.one(20) {
			name = "security.unknown" // of a namespace that no archive keeps
		}
		if len(name) > 255 {
			name = name[:255]
		}
		value := g.noise(int64(pick(g, xattrSizes)))
		if g.one(4) {
			value = []byte("text\x00with\x00NULs\x00")
		}
		err := unix.Lsetxattr(path, name, value, 0)
		if (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG)) && len(value) > 1000 {
			err = unix.Lsetxattr(path, name, value[:700], 0)
		}
		if !g.tried("xattr", err) && kind != unix.S_IFREG && kind != unix.S_IFDIR {
			return
		}
	}
}

// capability is a value of security.capability, of version 2 or 3.
func (g *generator) capability() []byte {
	const effective = 1
	b := []byte{effective, 0, 0, 2}
	b = append(b, byte(g.rng.IntN(256)), byte(g.rng.IntN(64)), 0, 0) // permitted
	b = append(b, make([]byte, 12)...)                               // inheritable, and the upper half
	if g.one(2) {
		b[3] = 3
		b = append(b, 0xe8, 3, 0, 0) // the namespace's root: 1000
	}
	return b
}

var labels = []string{"system_u:object_r:bin_t:s0", "user_u:object_r:user_home_t:s0:c1,c2", "x"}

// time is one of the last years, with any fraction of a second, or odd.
func (g *generator) time() unix.Timespec {
	sec := int64(1_600_000_000) + g.rng.Int64N(100_000_000)
	nsec := pick(g, []int64{0, 0, 1, 999, 1000, 500_000_000, 999_999_999, g.rng.Int64N(1e9)})
	switch g.rng.IntN(10) {
	case 0:
		sec = pick(g, []int64{0, 1, 1<<31 - 1, 1 << 31, 1 << 32, 7_258_118_400})
	case 1:
		if !g.Since1970 {
			// Not -1 ns: its bits are all ones, which no archive can say.
			sec = pick(g, []int64{-2, -1000, -(1 << 31) + 2})
		}
	}
	t := unix.NsecToTimespec(sec*int64(time.Second) + nsec)
	if int64(t.Sec) != sec { // 32 bits end in 2038
		t.Sec = 1<<31 - 1
	}
	return t
}

// attributes are chattr's flags, as the archive and as the kernel say them.
var attributes = []struct {
	feature feature.Flags
	kernel  uint32
}{
	{feature.Append, appendFlag},
	{feature.NoAtime, 0x80},
	{feature.Compr, 0x4},
	{feature.NoCOW, nocowFlag},
	{feature.NoDump, nodumpFlag},
	{feature.DirSync, 0x10000},
	{feature.Immutable, immutableFlag},
	{feature.Sync, 0x8},
	{feature.NoComp, 0x400},
	{feature.ProjInherit, 0x20000000},
}

// Some of linux/fs.h.
const (
	immutableFlag = 0x10
	appendFlag    = 0x20
	nodumpFlag    = 0x40
	nocowFlag     = 0x800000
	frozenFlags   = appendFlag | immutableFlag
)

// chattr sets some flags, one after the other: the kernel takes all that it is
// given or nothing.
func (g *generator) chattr(dir int, name string, may freeze) (frozen bool) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if !g.tried("open", err) {
		return false
	}
	defer unix.Close(fd)
	set, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if !g.tried("chattr", err) {
		return false
	}
	late := uint32(0)
	for range 1 + g.rng.IntN(3) {
		flag := pick(g, attributes).kernel
		switch {
		case flag == nodumpFlag && !g.one(3): // it takes the node out of most archives
		case flag == nocowFlag && g.WithCOW:
		case flag&frozenFlags == 0:
			g.setFlag(fd, &set, flag)
		case g.Root && bool(may):
			late |= flag
		}
	}
	for _, flag := range []uint32{appendFlag, immutableFlag} {
		if late&flag != 0 && g.setFlag(fd, &set, flag) {
			frozen, g.frozen = true, true
		}
	}
	return frozen
}

// setFlag adds a flag to those that are set.
func (g *generator) setFlag(fd int, set *uint32, flag uint32) bool {
	if !g.tried("chattr", unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(*set|flag))) {
		return false
	}
	*set |= flag
	return true
}

// Thaw takes the flags that keep a tree from being changed or removed from
// everything in dir.
func Thaw(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("testtree: thaw %s: %w", dir, err)
	}
	defer unix.Close(fd)
	return thaw(fd)
}

func thaw(dir int) error {
	if flags, err := unix.IoctlGetUint32(dir, unix.FS_IOC_GETFLAGS); err == nil && flags&frozenFlags != 0 {
		if err := unix.IoctlSetPointerInt(dir, unix.FS_IOC_SETFLAGS, int(flags&^frozenFlags)); err != nil {
			return fmt.Errorf("testtree: thaw: %w", err)
		}
	}
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("testtree: thaw %q: %w", name, err)
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
			continue
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EACCES) {
			continue // nor could whoever may not read it have frozen it
		}
		if err != nil {
			return fmt.Errorf("testtree: thaw %q: %w", name, err)
		}
		err = thawNode(fd, &st)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func thawNode(fd int, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return thaw(fd)
	}
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&frozenFlags == 0 {
		return nil // no flags here
	}
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^frozenFlags)); err != nil {
		return fmt.Errorf("testtree: thaw: %w", err)
	}
	return nil
}
