package walk

import (
	"io/fs"
	"syscall"
)

// InodeOf is which node of the file system something is; false if st does not
// come from there.
func InodeOf(st fs.FileInfo) (Inode, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return Inode{}, false
	}
	return Inode{Dev: sys.Dev, Ino: sys.Ino}, true
}
