package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
)

// A medium is the file as a Disk uses it. Its methods may be called from many
// goroutines. Offsets are those of the file.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// zero makes n bytes read as zeros; room for them is kept on the disk, or
	// not.
	zero(off, n int64, reserve bool) error

	// reserve keeps room on the disk for n bytes, and leaves them as they are.
	reserve(off, n int64) error

	// sync returns when all that was done before is on stable storage.
	sync() error

	// holes yields offset and length of the holes within n bytes, in order.
	holes(off, n int64) iter.Seq2[int64, int64]
}

// file is the medium.
type file struct{ *os.File }

func (f file) sync() error { return dataSync(f.File) }

func (f file) zero(off, n int64, reserve bool) error {
	if n == 0 {
		return nil // which the kernel refuses
	}
	zero := punch
	if reserve {
		zero = zeroRange
	}
	if err := zero(f.File, off, n); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return f.writeZeros(off, n, reserve)
}

var zeros [64 << 10]byte

// writeZeros leaves alone what is zeros already, unless there is to be room: it
// may be a hole.
func (f file) writeZeros(off, n int64, reserve bool) error {
	was := make([]byte, len(zeros))
	for n > 0 {
		step := min(n, int64(len(zeros)))
		if !reserve {
			if err := readFull(f, was[:step], off); err != nil {
				return err
			}
		}
		if reserve || !bytes.Equal(was[:step], zeros[:step]) {
			if _, err := f.WriteAt(zeros[:step], off); err != nil {
				return err
			}
		}
		off, n = off+step, n-step
	}
	return nil
}

func (f file) reserve(off, n int64) error {
	if err := allocate(f.File, off, n); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil // a full disk is seen later
}

func (f file) holes(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for at, end := off, off+n; at < end; {
			hole, err := seekHole(f.File, at)
			if err != nil || hole >= end {
				return // what is not known to be a hole is none
			}
			data, err := seekData(f.File, hole)
			if err != nil {
				return
			}
			data = min(data, end)
			if data <= hole || !yield(hole, data-hole) {
				return
			}
			at = data
		}
	}
}

// readFull reads all of p: a file that ends before was cut.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("was cut while in use: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// bare is an error of the os package without the path, which is said once.
func bare(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	if l := (*os.LinkError)(nil); errors.As(err, &l) {
		return l.Err
	}
	return err
}
