package image

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
)

// A superblock is the first bytes of a file system, as many as tell its size; what is
// not there is zeros.
type superblock []byte

// Of the file systems that casync knows the first 4 KiB are looked at, of others the
// first 68 KiB: Btrfs has its superblock at byte 64 Ki.
const (
	casyncBytes = 4 << 10
	allBytes    = 68 << 10
)

// A fileSystemKind knows a kind of file system by its superblock. size is how long
// it is; 0: it is of another kind, or has no size that makes sense.
type fileSystemKind struct {
	name string
	size func(b superblock) int64
}

var (
	casyncKinds = []fileSystemKind{
		{"squashfs", squashfsSize},
		{"ext2/3/4", extSize},
		{"Android boot image", androidSize},
	}
	otherKinds = []fileSystemKind{
		{"XFS", xfsSize},
		{"Btrfs", btrfsSize},
		{"EROFS", erofsSize},
		{"F2FS", f2fsSize},
		{"ISO 9660", isoSize},
		{"NTFS", ntfsSize},
		{"exFAT", exfatSize},
		{"FAT", fatSize},
	}
)

// fileSystem tells how long the file system in r is: of those that casync knows, as it
// does, or all. "" and 0: there is none of them.
func fileSystem(r io.ReaderAt, all bool) (name string, size int64, err error) {
	kinds, n := casyncKinds, casyncBytes
	if all {
		kinds, n = append(kinds[:len(kinds):len(kinds)], otherKinds...), allBytes
	}
	b := make(superblock, n)
	got, err := r.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return "", 0, err
	}
	clear(b[got:])
	for _, k := range kinds {
		if size := k.size(b); size > 0 {
			return k.name, size, nil
		}
	}
	return "", 0, nil
}

// has reports whether text stands at off.
func (b superblock) has(off int, text string) bool {
	return bytes.HasPrefix(b[min(off, len(b)):], []byte(text))
}

func (b superblock) u16(off int) uint64 { return uint64(binary.LittleEndian.Uint16(b[off:])) }
func (b superblock) u32(off int) uint64 { return uint64(binary.LittleEndian.Uint32(b[off:])) }
func (b superblock) u64(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

// times is n units of a power of two, or 0 if it is absurd.
func times(n, unit uint64) int64 {
	if unit == 0 || bits.OnesCount64(unit) != 1 || unit > 1<<26 || n > 1<<62/unit {
		return 0
	}
	return int64(n * unit)
}

// squashfsSize reads bytes_used of a squashfs 4 superblock, rounded up to the
// 4 KiB that an image of one is padded to.
func squashfsSize(head superblock) int64 {
	if !head.has(0, "hsqs") {
		return 0
	}
	return roundUp(head.u64(40), 4096)
}

// extSize multiplies the block count with the block size of an ext2, ext3 or
// ext4 superblock, which lies at byte 1024.
func extSize(head superblock) int64 {
	super := head[1024:]
	if super.u16(0x38) != 0xef53 {
		return 0
	}
	const incompat64bit = 0x80
	blocks := super.u32(0x04)
	if super.u32(0x60)&incompat64bit != 0 {
		blocks |= super.u32(0x150) << 32
	}
	shift := super.u32(0x18)
	if shift > 6 || blocks > 1<<62>>(10+shift) { // blocks of 1 KiB to 64 KiB
		return 0
	}
	return int64(blocks << (10 + shift))
}

// androidSize adds up the page-aligned parts of an Android boot image: header,
// kernel, ramdisk, second stage and device tree.
func androidSize(head superblock) int64 {
	if !head.has(0, "ANDROID!") {
		return 0
	}
	field := func(i int) uint64 { return head.u32(8 + 4*i) }
	kernel, ramdisk, second, page, tree := field(0), field(2), field(4), field(7), field(8)
	if page == 0 || page&(page-1) != 0 {
		return 0
	}
	const header = 608 // bytes of the first page that are used
	var size int64
	for _, part := range []uint64{header, kernel, ramdisk, second, tree} {
		size += roundUp(part, page)
	}
	return size
}

// roundUp is n rounded up to a multiple of unit, or 0 if it is absurd.
func roundUp(n, unit uint64) int64 {
	if n > 1<<62 {
		return 0
	}
	return int64((n + unit - 1) / unit * unit)
}

// xfsSize multiplies sb_dblocks with sb_blocksize (big-endian; Linux,
// fs/xfs/libxfs/xfs_format.h).
func xfsSize(b superblock) int64 {
	if !b.has(0, "XFSB") {
		return 0
	}
	return times(binary.BigEndian.Uint64(b[8:]), uint64(binary.BigEndian.Uint32(b[4:])))
}

// btrfsSize is what the device has that the superblock lies on; of a file system on
// several devices no single one is an image (Linux, include/uapi/linux/btrfs_tree.h).
func btrfsSize(b superblock) int64 {
	super := b[64<<10:]
	if !super.has(0x40, "_BHRfS_M") || super.u64(0x88) != 1 {
		return 0
	}
	return times(super.u64(0xc9+8), 1)
}

// erofsSize multiplies blocks with the block size (Linux, fs/erofs/erofs_fs.h). An
// image whose number of blocks has 48 bits has them at another place.
func erofsSize(b superblock) int64 {
	const incompat48bit = 0x80
	super := b[1024:]
	if super.u32(0) != 0xe0f5e1e2 || super.u32(80)&incompat48bit != 0 || super[12] > 16 {
		return 0
	}
	return times(super.u32(36), 1<<super[12])
}

// f2fsSize multiplies block_count with the block size (Linux,
// include/linux/f2fs_fs.h).
func f2fsSize(b superblock) int64 {
	super := b[1024:]
	if super.u32(0) != 0xf2f52010 || super.u32(16) > 16 {
		return 0
	}
	return times(super.u64(36), 1<<super.u32(16))
}

// isoSize multiplies the volume space size with the logical block size of the
// primary volume descriptor, which is in sector 16 (ECMA-119, 8.4).
func isoSize(b superblock) int64 {
	volume := b[32<<10:]
	if !volume.has(0, "\x01CD001") {
		return 0
	}
	return times(volume.u32(80), volume.u16(128))
}

// isBoot reports whether a sector ends as boot sectors do.
func (b superblock) isBoot() bool { return b.has(510, "\x55\xaa") }

// ntfsSize adds to the sectors that the boot sector counts the one behind them, its
// copy.
func ntfsSize(b superblock) int64 {
	if !b.isBoot() || !b.has(3, "NTFS    ") || b.u64(40) == 0 || b.u64(40) == 1<<64-1 {
		return 0
	}
	return times(b.u64(40)+1, b.u16(11))
}

// exfatSize multiplies the volume's length with the sector size (the exFAT
// specification, 3.1).
func exfatSize(b superblock) int64 {
	if !b.isBoot() || !b.has(3, "EXFAT   ") || b[108] < 9 || b[108] > 12 {
		return 0
	}
	return times(b.u64(72), 1<<b[108])
}

// fatSize multiplies the sectors that the boot sector counts with their size
// (Microsoft, FAT32 File System Specification 1.03). A partition table lies in a
// sector that ends in the same way, but has no such fields.
func fatSize(b superblock) int64 {
	isFAT := b.has(54, "FAT12   ") || b.has(54, "FAT16   ") || b.has(54, "FAT     ") || b.has(82, "FAT32   ")
	if !b.isBoot() || !isFAT || b.u16(11) < 512 {
		return 0
	}
	sectors := b.u16(19)
	if sectors == 0 {
		sectors = b.u32(32)
	}
	return times(sectors, b.u16(11))
}
