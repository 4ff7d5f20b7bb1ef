package tarball

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// A Spool keeps the bytes of files that come one after the other and are wanted in
// another order: in a temporary file without a name, in which long runs of zeros
// are holes. It lies in the folder of os.TempDir ($TMPDIR). Reading may be done
// from many goroutines, when nothing is put any more.
type Spool struct {
	file  *os.File
	name  string // that Close has to remove; "": none is left
	buf   []byte // what comes next, not in the file yet
	begin int64  // of that, in the spool
	zero  []run  // blocks that are holes
}

// spoolBuffer is how much is written at once: whole blocks.
const spoolBuffer = 1 << 20

// NewSpool makes an empty one.
func NewSpool() (*Spool, error) {
	f, name, err := unnamed(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("tarball: a temporary file, in $TMPDIR: %w", err)
	}
	return &Spool{file: f, name: name, buf: make([]byte, 0, spoolBuffer)}, nil
}

// Put keeps the next n bytes of r, and returns where they are. Less than that are
// an error.
func (s *Spool) Put(ctx context.Context, r io.Reader, n int64) (off int64, err error) {
	off = s.begin + int64(len(s.buf))
	if n > math.MaxInt64-off {
		return 0, fmt.Errorf("tarball: files of more than %d bytes", int64(math.MaxInt64))
	}
	for n > 0 {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		have := len(s.buf)
		room := int(min(n, int64(cap(s.buf)-have)))
		got, err := io.ReadFull(r, s.buf[have:have+room])
		s.buf = s.buf[:have+got]
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, fmt.Errorf("tarball: truncated, %d bytes before the end of a file", n-int64(got))
		}
		if err != nil {
			return 0, err
		}
		n -= int64(got)
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return off, nil
}

// flush writes what is in the buffer and no hole.
func (s *Spool) flush() error {
	for off := 0; off < len(s.buf); {
		end := min(off+zeroBytes, len(s.buf))
		if allZero(s.buf[off:end]) {
			s.zero = addHole(s.zero, s.begin+int64(off), s.buf[off:end])
			off = end
			continue
		}
		for end < len(s.buf) {
			next := min(end+zeroBytes, len(s.buf))
			if allZero(s.buf[end:next]) {
				break
			}
			end = next
		}
		if _, err := s.file.WriteAt(s.buf[off:end], s.begin+int64(off)); err != nil {
			return s.told(err)
		}
		off = end
	}
	s.begin += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// Seal makes all that was put so far ready to be read.
func (s *Spool) Seal() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.told(s.file.Truncate(s.begin))
}

// told says whose file it is that an error is about: it has no name by which one
// would know.
func (s *Spool) told(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("tarball: the temporary file in %s ($TMPDIR): %w", os.TempDir(), err)
}

// Reset forgets all that was put.
func (s *Spool) Reset() error {
	s.buf, s.begin, s.zero = s.buf[:0], 0, s.zero[:0]
	return s.told(s.file.Truncate(0))
}

// holes are the blocks of zeros of all that was put, which can then be read.
func (s *Spool) holes() []run { return s.zero }

// ReadAt is io.ReaderAt's.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = s.told(err)
	}
	return n, err
}

// Close gives the file back.
func (s *Spool) Close() error {
	err := s.file.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}
