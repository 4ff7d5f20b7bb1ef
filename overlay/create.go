package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// newSuffix is what a file's name has behind it while it is made.
const newSuffix = ".new"

var (
	errInUse     = errors.New("in use, by another process or by this one")
	errIrregular = errors.New("is not a regular file")
	errMeanwhile = errors.New("was replaced while it was opened")
)

// openFile opens and locks the file at path, or makes one with the header want.
// It returns the header that the file has.
func openFile(path string, want header, opt Options) (*file, header, error) {
	f, err := openRegular(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = create(path, want)
		if errors.Is(err, fs.ErrExist) { // another was faster
			f, err = openRegular(path, 0)
		}
	}
	if err != nil {
		return nil, header{}, err
	}
	h, err := examine(f, want, opt)
	if err != nil {
		f.Close() // nothing was written
		return nil, header{}, err
	}
	return &file{f}, h, nil
}

// examine returns the header of a file that is the one wanted.
func examine(f *os.File, want header, opt Options) (header, error) {
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return header{}, fmt.Errorf("offset 0: %w", bare(err))
	}
	h, err := parseHeader(b[:n])
	if err != nil {
		return h, err
	}
	if err := h.fits(want, opt.Size); err != nil {
		return h, err
	}
	st, err := f.Stat()
	if err != nil {
		return h, bare(err)
	}
	if st.Size() != h.length() {
		return h, fmt.Errorf("offset %d: the file ends here, not at %d: cut, or not copied to its end", st.Size(), h.length())
	}
	return h, nil
}

// create makes a file that is complete and on the disk when it gets its name. It
// returns an error that matches fs.ErrExist if meanwhile another got it.
//
// Whoever makes one holds the lock of the file with the name for the time being,
// and looks for the final one again: so there is one at a time. What a process
// that was killed has left under that name is begun anew.
func create(path string, h header) (_ *os.File, err error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("the folder %s: %w", filepath.Dir(path), bare(err))
	}
	f, err := openRegular(path+newSuffix, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path)+newSuffix, err)
	}
	defer func() {
		if err != nil {
			f.Close() // it has no name any more, or is begun anew
		}
	}()
	if err := unfinished(f); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(f.Name()), err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(f.Name()) // or is begun anew
		return nil, fs.ErrExist
	}
	if err := begin(f, h); err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, bare(err)
	}
	return f, syncDir(filepath.Dir(path))
}

// unfinished returns an error if f is neither empty nor an overlay.
func unfinished(f *os.File) error {
	b := make([]byte, len(magic))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return bare(err)
	}
	if n > 0 && string(b[:n]) != magic {
		return errors.New("is in the way and not an unfinished overlay; move it elsewhere")
	}
	return nil
}

// begin makes f an overlay in which nothing was written.
func begin(f *os.File, h header) error {
	if err := f.Truncate(0); err != nil {
		return bare(err)
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return bare(err)
	}
	if err := f.Truncate(h.length()); err != nil {
		return fmt.Errorf("a file of %d bytes, most of it holes: %w", h.length(), bare(err))
	}
	if err := f.Sync(); err != nil {
		return bare(err)
	}
	return nil
}

// openRegular opens and locks a regular file, and nothing else.
func openRegular(path string, flags int) (*os.File, error) {
	st, err := os.Lstat(path)
	switch {
	case err != nil && !(errors.Is(err, fs.ErrNotExist) && flags&os.O_CREATE != 0):
		return nil, bare(err)
	case err == nil && st.Mode()&fs.ModeSymlink != 0:
		return nil, errors.New("is a symbolic link")
	case err == nil && !st.Mode().IsRegular():
		return nil, errIrregular
	}
	f, err := os.OpenFile(path, os.O_RDWR|flags|noFollow, 0o600)
	if err != nil {
		return nil, bare(err)
	}
	if err := claim(f); err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// claim locks a regular file that still has its name.
func claim(f *os.File) error {
	if err := lock(f); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return bare(err)
	}
	if !st.Mode().IsRegular() {
		return errIrregular
	}
	if now, err := os.Lstat(f.Name()); err != nil || !os.SameFile(st, now) {
		return errMeanwhile
	}
	return nil
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return bare(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return bare(err)
	}
	return nil
}
