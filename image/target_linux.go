package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openExclusive keeps a block device from being written while it is mounted.
const openExclusive = unix.O_EXCL

// punch makes a hole of n bytes at off.
func punch(f *os.File, off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// blockSize is that of the file system which f is in; 0: unknown.
func blockSize(f *os.File) int64 {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return 0
	}
	return max(int64(st.Bsize), 0)
}

// canClone reports whether files beside f can share blocks with it. That is found out by an
// attempt which is refused because the two ranges are the same, unless it is for that.
func canClone(f *os.File, block int64) bool {
	err := clone(f, 0, f, 0, block)
	return !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY)
}

// clone has n bytes of to share the blocks of from. All of it begins and ends at blocks.
// isUnclonable reports whether a clone failed for what the two files are: another file system,
// a device. Then nothing is shared.
func isUnclonable(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS)
}

func clone(to *os.File, toOff int64, from *os.File, fromOff, n int64) error {
	return unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
		Src_fd:      int64(from.Fd()),
		Src_offset:  uint64(fromOff),
		Src_length:  uint64(n),
		Dest_offset: uint64(toOff),
	})
}
