package inode

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Ctime says what the time of change is worth that a file system tells of its files.
type Ctime uint8

const (
	// NoCtime: it may be the time of modification once more, or whatever a server or an image
	// says. Of what is not known this is assumed.
	NoCtime Ctime = iota

	// SomeCtime: it is put together of others, which have one, or have not. Those that have
	// not mostly say the time of modification.
	SomeCtime

	// OwnCtime: a clock's, at each change, whatever the other times are set to.
	OwnCtime
)

// CtimeOf finds out what the times of change are worth where fd lies. The answer is the same for
// all nodes of a device.
func CtimeOf(fd int) (Ctime, error) {
	magic, err := magicOf(fd)
	if err != nil {
		return NoCtime, fmt.Errorf("inode: statfs: %w", err)
	}
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
		unix.F2FS_SUPER_MAGIC, unix.BCACHEFS_SUPER_MAGIC, unix.NILFS_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC,
		unix.REISERFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC,
		cephFS, gfs2, jffs2, jfs, lustre, ubiFS, zfs:
		return OwnCtime, nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return SomeCtime, nil
	}
	return NoCtime, nil
}

// Numbers of file systems that golang.org/x/sys does not have.
const (
	cephFS = 0x00c36400
	gfs2   = 0x01161970
	jffs2  = 0x000072b6
	jfs    = 0x3153464a
	lustre = 0x0bd00bd0
	ubiFS  = 0x24051905
	zfs    = 0x2fc12fc1
)
