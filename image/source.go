package image

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Source is an opened file, block device or pipe that an image is made of. It is read by one
// goroutine, and knows of the holes of a file (chunker.Sparse).
type Source struct {
	Size int64       // bytes that Read will give, from where it begins; -1: unknown, a pipe
	Mode fs.FileMode // type and permissions of what was opened
	Cut  string      // the file system at whose end it was cut; ""

	file  *os.File
	limit int64 // bytes left to be read of what is cut; -1: there is no limit
	holes holes
}

// SourceOptions says more about a Source. The zero value is casync's rule.
type SourceOptions struct {
	// FileSystem has files, too, end where the file system in them does, which must
	// be there, and may be of more kinds: XFS, Btrfs, EROFS, FAT, exFAT, NTFS, F2FS
	// and ISO 9660.
	FileSystem bool
}

// OpenSource opens what an image is made of. A block device ends where the
// file system on it does, if that is one of those that casync knows (ext2 to
// ext4, squashfs, Android boot images) and claims less than the device has.
func OpenSource(path string, opt SourceOptions) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := NewSource(f, opt)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// NewSource is OpenSource for what is open already, from where it is read next.
// It belongs to the Source unless there is an error.
func NewSource(f *os.File, opt SourceOptions) (*Source, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &Source{Size: -1, Mode: st.Mode(), file: f, limit: -1}
	switch {
	case st.IsDir():
		return nil, fmt.Errorf("image: %s: is a directory, not a file, block device or pipe", f.Name())
	case st.Mode().IsRegular() && opt.FileSystem, isBlockDevice(st.Mode()):
		return s, s.measure(opt, st)
	case st.Mode().IsRegular():
		at, err := f.Seek(0, io.SeekCurrent)
		s.Size = max(st.Size()-at, 0)
		s.holes = holesOf(f, st, at, st.Size())
		return s, err
	case opt.FileSystem:
		return nil, fmt.Errorf("image: %s: what is neither a file nor a block device cannot be looked at before it is read", f.Name())
	}
	return s, nil
}

func isBlockDevice(m fs.FileMode) bool {
	return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0
}

// measure finds the size of a file or block device, and of the file system in it.
func (s *Source) measure(opt SourceOptions, st fs.FileInfo) error {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	end, err := s.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := s.file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	name, size, err := fileSystem(s.file, opt.FileSystem)
	switch {
	case err != nil:
		return err
	case size == 0 && opt.FileSystem:
		return fmt.Errorf("image: %s: no file system whose size is known", s.file.Name())
	case size > 0 && size < end:
		end, s.Cut = size, name
	}
	s.Size = max(end-at, 0)
	s.limit = s.Size
	s.holes = holesOf(s.file, st, at, end)
	return nil
}

// Read reads what is before the next hole, and not beyond where the source was cut.
func (s *Source) Read(p []byte) (int, error) {
	if s.limit == 0 {
		return 0, io.EOF
	}
	if s.limit > 0 {
		p = p[:min(int64(len(p)), s.limit)]
	}
	n, err := s.file.Read(s.holes.before(p))
	s.passed(int64(n))
	return n, err
}

// Hole passes the hole that comes next, and returns how long it is.
func (s *Source) Hole() (int64, error) {
	n, err := s.holes.next()
	s.passed(n)
	return n, err
}

// Skip passes over n bytes, those of a file without reading them. It is an error that there
// are fewer.
func (s *Source) Skip(n int64) error {
	if n > s.Size && s.Size >= 0 {
		return fmt.Errorf("image: %s: %d is behind the end, at %d", s.file.Name(), n, s.Size)
	}
	if s.Size >= 0 {
		if _, err := s.file.Seek(n, io.SeekCurrent); err != nil {
			return err
		}
		s.Size -= n
		s.passed(n)
		return nil
	}
	at, err := io.CopyN(io.Discard, s, n)
	if err == io.EOF {
		err = fmt.Errorf("image: %s: %d is behind the end, at %d", s.file.Name(), n, at)
	}
	return err
}

func (s *Source) passed(n int64) {
	s.holes.at += n
	if s.limit > 0 {
		s.limit -= n
	}
}

// Close closes the file, which also ends a read that waits for a pipe.
func (s *Source) Close() error { return s.file.Close() }
