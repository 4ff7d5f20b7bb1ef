//go:build linux

package fusefs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// Requests that ask for attributes which have no other way, as chattr, FAT and
// quotas know them. The kernel converts what 32-bit programs ask.
const (
	ioRead           = unix.FS_IOC_GETFLAGS >> 30 << 30        // the direction's bits, which differ between machines
	fatGetAttributes = ioRead | 4<<16 | 'r'<<8 | 0x10          // FAT_IOCTL_GET_ATTRIBUTES
	getExtended      = ioRead | extendedSize<<16 | 'X'<<8 | 31 // FS_IOC_FSGETXATTR
	extendedSize     = 28                                      // of a struct fsxattr
)

// chattrBits are the features that stand for the kernel's flags: FS_*_FL of
// FS_IOC_GETFLAGS, and FS_XFLAG_* of FS_IOC_FSGETXATTR where there is one.
var chattrBits = [...]struct {
	feature     feature.Flags
	flag, xflag uint32
}{
	{feature.Append, 0x20, 0x10},
	{feature.NoAtime, 0x80, 0x40},
	{feature.Compr, 0x4, 0},
	{feature.NoCOW, 0x800000, 0},
	{feature.NoDump, 0x40, 0x80},
	{feature.DirSync, 0x10000, 0},
	{feature.Immutable, 0x10, 0x8},
	{feature.Sync, 0x8, 0x20},
	{feature.NoComp, 0x400, 0},
	{feature.ProjInherit, 0x20000000, 0x200},
}

var fatBits = [...]struct {
	feature feature.Flags
	attr    uint32
}{
	{feature.Hidden, 0x2},
	{feature.System, 0x4},
	{feature.ArchiveFlag, 0x20},
}

// Ioctl answers what an archive knows; all else is not for this file system.
func (f *treeFS) Ioctl(signal <-chan struct{}, in *fuse.IoctlIn, _ []byte, out *fuse.IoctlOut, buf []byte) fuse.Status {
	var answer func(n *catar.Node, buf []byte)
	size, known := 4, feature.Flags(0)
	switch in.Cmd {
	case unix.FS_IOC_GETFLAGS:
		known, answer = feature.Chattr, giveChattr
	case getExtended:
		known, answer, size = feature.Chattr|feature.QuotaProjID, giveExtended, extendedSize
	case fatGetAttributes:
		known, answer = feature.FATAttrs, giveFAT
	}
	if f.flags&known == 0 {
		return fuse.Status(unix.ENOTTY)
	}
	if len(buf) < size {
		return fuse.EINVAL
	}
	clear(buf)
	*out = fuse.IoctlOut{}
	a, st := f.attr(in.NodeId)
	if st != fuse.OK || a.Plain {
		return st
	}
	n, st := f.node(signal, in.Pid, a.ID, false)
	if st == fuse.OK {
		answer(n, buf)
	}
	return st
}

func giveChattr(n *catar.Node, buf []byte) {
	var flags uint32
	for _, b := range chattrBits {
		if n.Flags&b.feature != 0 {
			flags |= b.flag
		}
	}
	binary.NativeEndian.PutUint32(buf, flags)
}

// giveExtended fills a struct fsxattr: flags, extent size, extents, project.
func giveExtended(n *catar.Node, buf []byte) {
	var flags uint32
	for _, b := range chattrBits {
		if n.Flags&b.feature != 0 {
			flags |= b.xflag
		}
	}
	binary.NativeEndian.PutUint32(buf, flags)
	binary.NativeEndian.PutUint32(buf[12:], n.ProjID)
}

func giveFAT(n *catar.Node, buf []byte) {
	var attrs uint32
	for _, b := range fatBits {
		if n.Flags&b.feature != 0 {
			attrs |= b.attr
		}
	}
	binary.NativeEndian.PutUint32(buf, attrs)
}
