package image

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openExclusive keeps a block device from being written while it is mounted.
const openExclusive = unix.O_EXCL

// dataExtents lists the parts of the first size bytes that are no holes.
func dataExtents(f *os.File, size int64) ([]extent, error) {
	var list []extent
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return []extent{{0, size}}, nil // a file system that does not tell
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return []extent{{0, size}}, nil
		}
		if start >= size {
			break
		}
		list = append(list, extent{start, min(end, size)})
		off = end
	}
	_, err := f.Seek(0, io.SeekStart)
	return list, err
}

// punch makes a hole of n bytes at off.
func punch(f *os.File, off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}
