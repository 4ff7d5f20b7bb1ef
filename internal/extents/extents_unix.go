//go:build linux || freebsd

package extents

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Of lists the parts of the first size bytes of f that are no holes. It leaves f at its
// beginning.
func Of(f *os.File, size int64) (List, error) {
	var list List
	for off := int64(0); off < size; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return List{{0, size}}, nil // a file system that does not tell
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return List{{0, size}}, nil
		}
		if start >= size {
			break
		}
		list = append(list, Extent{start, min(end, size)})
		off = end
	}
	_, err := f.Seek(0, io.SeekStart)
	return list, err
}

// NextData is where bytes come in f, from off on: at its end, if there are none.
func NextData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		// If the file has become shorter, there are no zeros behind.
		return f.Seek(0, io.SeekEnd)
	}
	return at, err
}

// NextHole is where the bytes end that are at off in f.
func NextHole(f *os.File, off int64) (int64, error) { return f.Seek(off, unix.SEEK_HOLE) }
