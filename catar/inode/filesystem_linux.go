package inode

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Virtual reports whether fd lies on one of the file systems whose content is
// left out (docs/formats.md, section 4.7). The answer is the same for all nodes
// of a device.
func Virtual(fd int) (bool, error) {
	magic, err := magicOf(fd)
	if err != nil {
		return false, fmt.Errorf("inode: statfs: %w", err)
	}
	switch magic {
	case unix.BINFMTFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, configFS, unix.DEBUGFS_MAGIC,
		unix.DEVPTS_SUPER_MAGIC, unix.EFIVARFS_MAGIC, fuseControl, unix.HUGETLBFS_MAGIC, mqueueFS, nfsServer,
		unix.PROC_SUPER_MAGIC, unix.PSTOREFS_MAGIC, rpcPipes, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC,
		unix.SMACK_MAGIC, unix.SYSFS_MAGIC:
		return true, nil
	}
	return false, nil
}

// Numbers of file systems that golang.org/x/sys does not have.
const (
	configFS    = 0x62656570
	fuseControl = 0x65735543
	mqueueFS    = 0x19800202
	nfsServer   = 0x6e667364
	rpcPipes    = 0x67596969
)

func magicOf(fd int) (uint32, error) {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(fd, &st)
		if err != unix.EINTR {
			return uint32(st.Type), err
		}
	}
}

// A filesystem is what is known of the file system of one device.
type filesystem struct {
	dev   uint64
	magic uint32 // its number in statfs(2)

	// What it turned out not to know at all.
	noFlags, noFAT, noProjects, noXAttrs atomic.Bool

	// exact says that it keeps nanoseconds: as its kind, or it was seen to.
	exact atomic.Bool
}

// hasFAT reports whether files may have FAT's attributes. casync asks only
// these two, and not exFAT.
func (f *filesystem) hasFAT() bool {
	return f.magic == unix.MSDOS_SUPER_MAGIC || f.magic == unix.FUSE_SUPER_MAGIC
}

// hasProjects reports whether files may have a quota project, to casync.
func (f *filesystem) hasProjects() bool {
	return f.magic == unix.EXT4_SUPER_MAGIC || f.magic == unix.XFS_SUPER_MAGIC || f.magic == unix.FUSE_SUPER_MAGIC
}

// inheritsEarly reports whether a new node may have got flags of its directory
// that come too late once it has content. On the others they do nothing.
func (f *filesystem) inheritsEarly() bool {
	switch f.magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return false
	}
	return true
}

// native reports whether this is one of those that are known to do what they
// say: modes and whole seconds are kept or refused, and a list of extended
// attributes names ACLs and labels whenever there are some. Others are asked.
func (f *filesystem) native() bool {
	switch f.magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.SQUASHFS_MAGIC:
		return true
	}
	return false
}

// forgive returns err unless it says that a thing is not known. lacks then is
// set, if that holds for the whole file system: one that is put together of
// others, or lives in a process, may answer differently elsewhere.
func (f *filesystem) forgive(err error, lacks *atomic.Bool) error {
	if !unsupported(err) {
		return err
	}
	whole := f.magic != unix.FUSE_SUPER_MAGIC && f.magic != unix.OVERLAYFS_SUPER_MAGIC
	if whole && (err == unix.ENOTTY || err == unix.EOPNOTSUPP) {
		lacks.Store(true)
	}
	return nil
}

func newFilesystem(dev uint64, magic uint32) *filesystem {
	f := &filesystem{dev: dev, magic: magic}
	switch magic {
	case unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		f.exact.Store(true)
	}
	return f
}

// filesystems are those seen so far.
type filesystems struct {
	last atomic.Pointer[filesystem] // mostly the next one as well

	mu    sync.RWMutex // guards byDev
	byDev map[uint64]*filesystem
}

// of returns the file system of fd, a node on dev.
func (s *filesystems) of(fd int, dev uint64) (*filesystem, error) {
	if f := s.last.Load(); f != nil && f.dev == dev {
		return f, nil
	}
	s.mu.RLock()
	f := s.byDev[dev]
	s.mu.RUnlock()
	if f == nil {
		magic, err := magicOf(fd)
		if err != nil {
			return nil, err
		}
		f = s.add(newFilesystem(dev, magic))
	}
	s.last.Store(f)
	return f, nil
}

// add returns f, or what another one has added meanwhile.
func (s *filesystems) add(f *filesystem) *filesystem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.byDev[f.dev]; known != nil {
		return known
	}
	if s.byDev == nil {
		s.byDev = make(map[uint64]*filesystem)
	}
	s.byDev[f.dev] = f
	return f
}
