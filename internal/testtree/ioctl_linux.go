package testtree

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

const (
	fatGetAttributes = 0x80047210 // FAT_IOCTL_GET_ATTRIBUTES
	fsGetXAttr       = 0x801c581f // FS_IOC_FSGETXATTR
	subvolGetFlags   = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	subvolReadOnly   = 1 << 1     // BTRFS_SUBVOL_RDONLY
	subvolInode      = 256        // of the root of any of btrfs's subvolumes
)

// chattr are the flags that are set; none where there are no such flags.
func (n *node) chattr() feature.Flags {
	flags, err := unix.IoctlGetUint32(n.fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	var f feature.Flags
	for _, a := range attributes {
		if flags&a.kernel != 0 {
			f |= a.feature
		}
	}
	return f
}

// fat are the attributes on FAT.
func (n *node) fat() feature.Flags {
	flags, err := unix.IoctlGetUint32(n.fd, fatGetAttributes)
	if err != nil {
		return 0
	}
	var f feature.Flags
	for bit, name := range map[uint32]feature.Flags{2: feature.Hidden, 4: feature.System, 0x20: feature.ArchiveFlag} {
		if flags&bit != 0 {
			f |= name
		}
	}
	return f
}

// subvolume tells whether the node is the root of one.
func (n *node) subvolume() feature.Flags {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &fs); err != nil || uint32(fs.Type) != unix.BTRFS_SUPER_MAGIC || n.st.Ino != subvolInode {
		return 0
	}
	f := feature.Flags(feature.Subvolume)
	var flags uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.fd), subvolGetFlags, uintptr(unsafe.Pointer(&flags)))
	if errno == 0 && flags&subvolReadOnly != 0 {
		f |= feature.SubvolumeRO
	}
	return f
}

// project is the quota project's id; 0 is none.
func (n *node) project() uint32 {
	var attr struct {
		xflags, extsize, nextents, projid, cowextsize uint32
		_                                             [8]byte
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.fd), fsGetXAttr, uintptr(unsafe.Pointer(&attr)))
	if errno != 0 {
		return 0
	}
	return attr.projid
}
