package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"caravel/store"
)

// Put stores an object. The directories that it needs are made, the
// directory's own parent excepted.
func (d *Dir) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	path, err := d.path(ctx, name)
	if err != nil {
		return err
	}
	if err := d.put(path, &source{ctx, r, size, 0}); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var f *failure
		if errors.As(err, &f) {
			return err
		}
		return failed(path, err)
	}
	return nil
}

// A source is the bytes of a new object.
type source struct {
	ctx  context.Context
	r    io.Reader
	size int64 // -1: unknown
	read int64
}

// copyTo writes the bytes to w. An error means that the object is not to be
// named.
func (s *source) copyTo(w io.Writer) error {
	n, err := io.Copy(w, s.r)
	switch {
	case err != nil:
		return err
	case s.size >= 0 && n != s.size:
		return fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, n, s.size)
	}
	return s.ctx.Err()
}

// sync waits until f is on disk, if that is wanted. That takes so long that who was told to
// end together with what he read from, by a key for both, knows it by then.
func (s *source) sync(wanted bool, f func() error) error {
	if wanted {
		if err := f(); err != nil {
			return err
		}
	}
	return s.ctx.Err()
}

// putTemp makes the object under a temporary name and renames it.
func (d *Dir) putTemp(path string, src *source) error {
	mode := d.opt.Mode
	if runtime.GOOS == "windows" {
		mode |= 0o200 // nothing can be renamed over a read-only file
	}
	var f *os.File
	made, err := d.inFolder(path, func() (err error) {
		f, err = os.OpenFile(store.UnfinishedName(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		return err
	})
	if err != nil {
		return err
	}
	err = src.copyTo(f)
	if err == nil {
		err = src.sync(d.opt.Sync, f.Sync)
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return d.named(path, made)
}

// inFolder calls create, and if there is no folder for path makes it and calls
// create again. made is true if it had to.
func (d *Dir) inFolder(path string, create func() error) (made bool, err error) {
	const tries = 10 // somebody may remove empty folders meanwhile
	for range tries {
		// In a folder that was just removed, ext4 does not permit to make a file.
		if err = create(); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EPERM) {
			return made, err
		}
		made = true
		if err := d.makeFolder(filepath.Dir(path)); err != nil {
			return made, err
		}
	}
	return made, err
}

// makeFolder makes the directory and the folders from there down to folder.
func (d *Dir) makeFolder(folder string) error {
	err := os.Mkdir(folder, 0o777)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil // as for most chunks of a new store
	}
	if err := os.Mkdir(d.dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed(d.dir, err)
	}
	return os.MkdirAll(folder, 0o777)
}

// named does what is left when an object has its name.
func (d *Dir) named(path string, madeFolders bool) error {
	if !d.opt.Sync {
		return d.wrote(path)
	}
	last := filepath.Dir(path)
	if madeFolders {
		last = filepath.Dir(d.dir)
	}
	for folder := path; folder != last; {
		folder = filepath.Dir(folder)
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there, NTFS logs names
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
