//go:build linux || freebsd

package image

import (
	"io/fs"
	"syscall"
)

// isSparse reports whether a file takes less room than it has bytes.
func isSparse(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Blocks*512 < st.Size()
}
