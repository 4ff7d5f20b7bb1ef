//go:build linux || freebsd

package image

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isSparse reports whether a file takes less room than it has bytes.
func isSparse(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Blocks*512 < st.Size()
}

// seekData is where bytes come, from off on: at the end of the file, if there are none.
func seekData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		// If the file has become shorter, there are no zeros behind.
		return f.Seek(0, io.SeekEnd)
	}
	return at, err
}

// seekHole is where the bytes end that are at off.
func seekHole(f *os.File, off int64) (int64, error) { return f.Seek(off, unix.SEEK_HOLE) }
