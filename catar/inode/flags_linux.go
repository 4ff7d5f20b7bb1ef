package inode

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

// A bit pairs a flag of the kernel's with the feature of the same meaning.
type bit struct {
	kernel  uint32
	feature feature.Flags
}

// chattr are the flags of FS_IOC_GETFLAGS that archives keep.
var chattr = [...]bit{
	{0x20, feature.Append},
	{0x80, feature.NoAtime},
	{0x4, feature.Compr},
	{0x800000, feature.NoCOW},
	{0x40, feature.NoDump},
	{0x10000, feature.DirSync},
	{0x10, feature.Immutable},
	{0x8, feature.Sync},
	{0x400, feature.NoComp},
	{0x20000000, feature.ProjInherit},
}

// fat are the attributes of FAT_IOCTL_GET_ATTRIBUTES that archives keep.
var fat = [...]bit{
	{0x2, feature.Hidden},
	{0x4, feature.System},
	{0x20, feature.ArchiveFlag},
}

const (
	// sealing are those that forbid what else is done to a node: to write to
	// it, to give it a name.
	sealing = feature.Append | feature.Immutable

	// early are those that come too late, or in part, for a file that has
	// content.
	early = feature.Compr | feature.NoCOW | feature.NoComp
)

// fromKernel says in features what v has.
func fromKernel(bits []bit, v uint32) (f feature.Flags) {
	for _, b := range bits {
		if v&b.kernel != 0 {
			f |= b.feature
		}
	}
	return f
}

// toKernel is the reverse.
func toKernel(bits []bit, f feature.Flags) (v uint32) {
	for _, b := range bits {
		if f&b.feature != 0 {
			v |= b.kernel
		}
	}
	return v
}

// The numbers of ioctls hold a direction, in bits that depend on the machine,
// and the size of what is passed. FS_IOC_GETFLAGS passes a long by its number
// and 32 bits in truth.
const (
	directions = 7 << 29
	ioRead     = unix.FS_IOC_GETFLAGS & directions
	ioWrite    = unix.FS_IOC_SETFLAGS & directions

	getProject    = ioRead | unsafe.Sizeof(fsxattr{})<<16 | 'X'<<8 | 31
	setProject    = ioWrite | unsafe.Sizeof(fsxattr{})<<16 | 'X'<<8 | 32
	getFAT        = ioRead | 4<<16 | 'r'<<8 | 0x10
	setFAT        = ioWrite | 4<<16 | 'r'<<8 | 0x11
	getSubvolume  = ioRead | 8<<16 | 0x94<<8 | 25
	setSubvolume  = ioWrite | 8<<16 | 0x94<<8 | 26
	makeSubvolume = ioWrite | unsafe.Sizeof(volArgs{})<<16 | 0x94<<8 | 14
)

// subvolumeReadOnly is the flag of a subvolume that archives keep.
const subvolumeReadOnly = 1 << 1

// fsxattr is the kernel's struct fsxattr.
type fsxattr struct {
	xflags, extsize, nextents, project, cowextsize uint32
	_                                              [8]byte
}

// volArgs is the kernel's struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// ioctl passes arg, a pointer to what the number says.
func ioctl(fd int, number uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, uintptr(arg))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// unsupported reports whether err says that a file system, or this type of
// node in it, does not know a thing.
func unsupported(err error) bool {
	switch err {
	case unix.ENOTTY, unix.ENOSYS, unix.EBADF, unix.EOPNOTSUPP, unix.EINVAL:
		return true
	}
	return false
}

// flagsOf reads chattr's flags; none where there are none.
func (n *node) flagsOf() (uint32, error) {
	if n.fs.noFlags.Load() {
		return 0, nil
	}
	return n.get32(unix.FS_IOC_GETFLAGS, &n.fs.noFlags)
}

// get32 asks for 32 bits; 0 if they are not known, which lacks then says.
func (n *node) get32(number uintptr, lacks *atomic.Bool) (uint32, error) {
	var v uint32
	if err := ioctl(n.fd, number, unsafe.Pointer(&v)); err != nil {
		return 0, n.fs.forgive(err, lacks)
	}
	return v, nil
}

// fatOf reads the attributes of FAT; none elsewhere.
func (n *node) fatOf() (uint32, error) {
	if !n.fs.hasFAT() || n.fs.noFAT.Load() {
		return 0, nil
	}
	return n.get32(getFAT, &n.fs.noFAT)
}

// projectOf reads the quota project; 0 where there are none.
func (n *node) projectOf() (uint32, error) {
	if !n.fs.hasProjects() || n.fs.noProjects.Load() {
		return 0, nil
	}
	var x fsxattr
	err := ioctl(n.fd, getProject, unsafe.Pointer(&x))
	if err != nil {
		return 0, n.fs.forgive(err, &n.fs.noProjects)
	}
	return x.project, nil
}

// subvolumeOf says which of Subvolume and SubvolumeRO the directory has.
func (n *node) subvolumeOf() (feature.Flags, error) {
	if n.fs.magic != unix.BTRFS_SUPER_MAGIC || n.ino != subvolumeInode {
		return 0, nil
	}
	var v uint64
	if err := ioctl(n.fd, getSubvolume, unsafe.Pointer(&v)); err != nil {
		return 0, err
	}
	if v&subvolumeReadOnly != 0 {
		return feature.Subvolume | feature.SubvolumeRO, nil
	}
	return feature.Subvolume, nil
}

// subvolumeInode is the number of every subvolume's root.
const subvolumeInode = 256
