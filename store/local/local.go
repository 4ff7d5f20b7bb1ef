// Package local keeps objects in a directory.
//
// A new object appears under its name complete, by one system call, or not at
// all. On Linux it has no name before that, so a killed process leaves nothing;
// where the file system or the system does not know files without names, it
// leaves a file named like the object with 16 hexadecimal digits and .tmp
// behind, which [Dir.List] skips. A store of chunks is
//
//	s, err := store.Writable(local.New(dir, local.Options{Mode: 0o444}), store.Form{Either: true})
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"caravel/store"
)

// Options tunes a directory. The zero value is a good choice.
type Options struct {
	Mode   fs.FileMode // of new objects, before the umask; 0: 0666, casync's chunks have 0444
	Sync   bool        // Put returns when the object would survive a power cut; else call Sync
	Follow bool        // read through symbolic links; else they count as missing, as casync's chunks do

	// Renew has the time of an object say when it was last in use, to within Renew: one
	// that is opened or asked for, and older, gets the time of now. 0: objects keep the
	// time when they were written. Who removes what was not in use for a while
	// (DeleteOlder) has to allow for Renew, as a time that is right to the moment would
	// cost a write for every use.
	Renew time.Duration
}

// A Dir is a directory of objects. Its methods may be called from many
// goroutines, and other processes may use the directory at the same time.
//
// It gives no tags, and is no store.Refresher: two files of one size that were
// written within one tick of the clock have the same time too, and to read one
// again costs as little as to read what somebody has kept of it.
type Dir struct {
	dir string
	opt Options
	platform
}

var (
	_ store.Blobs   = (*Dir)(nil)
	_ store.Statter = (*Dir)(nil)
	_ store.Putter  = (*Dir)(nil)
	_ store.Lister  = (*Dir)(nil)
	_ store.Deleter = (*Dir)(nil)
	_ store.Locator = (*Dir)(nil)
)

// New returns the directory dir, which need not be there: Put makes it, but not
// its parent.
func New(dir string, opt Options) *Dir {
	opt.Mode = cmp.Or(opt.Mode, 0o666)
	return &Dir{dir: filepath.Clean(dir), opt: opt}
}

// Check says whether the directory is there, for those who want to read.
func (d *Dir) Check() error {
	fi, err := os.Stat(d.dir)
	switch {
	case missing(err):
		return fail(store.ErrMissing, "%s: no such store; name one with --store", d.dir)
	case err != nil:
		return failed(d.dir, err)
	case !fi.IsDir():
		return failed(d.dir, syscall.ENOTDIR)
	}
	return nil
}

// String is the directory's path.
func (d *Dir) String() string { return d.dir }

// Locate is the path of an object.
func (d *Dir) Locate(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

// Stat describes an object. Its Tag is not known.
func (d *Dir) Stat(ctx context.Context, name string) (store.Info, error) {
	path, err := d.path(ctx, name)
	if err != nil {
		return store.Info{}, err
	}
	stat := os.Lstat
	if d.opt.Follow {
		stat = os.Stat
	}
	fi, err := stat(path)
	switch {
	case err != nil:
		return store.Info{}, unreadable(path, err)
	case fi.Mode().Type() == fs.ModeSymlink:
		return store.Info{}, unreadable(path, fs.ErrNotExist)
	case !fi.Mode().IsRegular():
		return store.Info{}, failed(path, errNotFile)
	}
	if d.renew(path, fi.ModTime()) {
		// DeleteOlder may have been faster, also while the time was being set. What is
		// in its place now is young, and stays there.
		if _, err := stat(path); missing(err) {
			return store.Info{}, unreadable(path, err)
		}
	}
	return store.Info{Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

// Delete removes an object.
func (d *Dir) Delete(ctx context.Context, name string) error {
	path, err := d.path(ctx, name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !missing(err) {
		return failed(path, err)
	}
	return nil
}

// path is where an object lies: below the directory, whatever the name says.
func (d *Dir) path(ctx context.Context, name string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	rel, err := filepath.Localize(name)
	if err != nil || rel == "." {
		return "", fail(store.ErrRefused, "local: %s: name %q leads elsewhere", d.dir, name)
	}
	return d.dir + string(filepath.Separator) + rel, nil
}

var errNotFile = errors.New("not a regular file")

// A failure is an error of the system with what it means to a store.
type failure struct {
	text   string
	causes []error // what it matches: the system's error, one of the store's
}

func (e *failure) Error() string { return e.text }

func (e *failure) Unwrap() []error { return e.causes }

func fail(kind error, format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), []error{kind}}
}

// failed says what happened at a path. It is no [store.ErrMissing]: that is
// only what cannot be read.
func failed(path string, err error) error {
	err = bare(err)
	f := &failure{fmt.Sprintf("local: %s: %v", path, err), []error{err}}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, errNotFile) {
		f.causes = append(f.causes, store.ErrRefused)
	}
	return f
}

// unreadable is failed for an object that may be missing.
func unreadable(path string, err error) error {
	if missing(err) {
		return fail(store.ErrMissing, "local: %s: %v", path, store.ErrMissing)
	}
	return failed(path, err)
}

// missing reports whether err means that there is no such object; ELOOP is a
// symbolic link that is not followed.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) ||
		errors.Is(err, syscall.ENAMETOOLONG)
}

// bare takes off what package os says of the path.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
