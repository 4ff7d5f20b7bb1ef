package walk

import (
	"io"

	"golang.org/x/sys/unix"
)

// A payload is what the stream still needs of a file.
type payload struct {
	node   *node
	size   int64
	off    int64 // how far it is in the stream
	sparse bool  // the file may have holes

	until int64 // up to where it is known what there is:
	hole  bool  // zeros, or bytes
}

func (f *payload) left() int64 { return f.size - f.off }

// read reads the next bytes into p, at least one.
func (f *payload) read(p []byte) (int, error) {
	if f.off == f.until {
		f.look()
	}
	n := int(min(int64(len(p)), f.until-f.off))
	if f.hole {
		clear(p[:n])
	} else {
		var err error
		if n, err = pread(f.node.fd, p[:n], f.off); err == io.EOF {
			return 0, shrank(f.off, f.size)
		} else if err != nil {
			return 0, err
		}
	}
	f.off += int64(n)
	return n, nil
}

// look finds out what there is at off. A file system that does not say has
// bytes everywhere.
func (f *payload) look() {
	f.hole, f.until = false, f.size
	if !f.sparse {
		return
	}
	data, err := unix.Seek(f.node.fd, f.off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // none up to the end
		f.hole = true
	case err != nil:
		f.sparse = false
	case data > f.off:
		f.hole, f.until = true, min(data, f.size)
	default:
		if hole, err := unix.Seek(f.node.fd, f.off, unix.SEEK_HOLE); err == nil && hole > f.off {
			f.until = min(hole, f.size)
		}
	}
}

// changed reports whether the file, which is in the stream now, was written to
// since it was opened. A hole that was seen at its end may be one that is
// missing.
func (f *payload) changed() (bool, error) {
	var st unix.Statx_t
	if err := statx(f.node.fd, &st); err != nil {
		return false, err
	}
	if int64(st.Size) < f.size {
		return true, shrank(int64(st.Size), f.size)
	}
	return st.Mtime != f.node.st.Mtime || st.Size != f.node.st.Size, nil
}
