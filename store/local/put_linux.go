package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"caravel/store"
)

// ownFiles is where a file without a name can be named from.
const ownFiles = "/proc/self/fd/"

// platform is what a Dir keeps on Linux.
type platform struct {
	probe     sync.Once
	noUnnamed atomic.Bool // files without a name do not work here

	mu   sync.Mutex // guards root
	root *os.File   // the directory, once something was put; as long as the Dir is in use
}

// put makes the object as a file without a name, and gives it its name when it
// is complete.
func (d *Dir) put(path string, src *source) error {
	d.probe.Do(func() {
		d.noUnnamed.Store(unix.Access(ownFiles, unix.F_OK) != nil)
	})
	if d.noUnnamed.Load() {
		return d.putTemp(path, src)
	}
	f := &fdFile{-1}
	made, err := d.inFolder(path, func() (err error) {
		f.fd, err = retry(func() (int, error) {
			return unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, uint32(d.opt.Mode.Perm()))
		})
		return err
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		d.noUnnamed.Store(true)
		return d.putTemp(path, src)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := src.copyTo(f); err != nil {
		return err
	}
	if err := src.sync(d.opt.Sync, func() error { return unix.Fsync(f.fd) }); err != nil {
		return err
	}
	if err := d.link(f, path); err != nil {
		return err
	}
	return d.named(path, made)
}

// link names a file that has no name. There is no system call that puts it in
// the place of another, hence the detour if there is one.
func (d *Dir) link(f *fdFile, path string) error {
	link := func(to string) error {
		return unix.Linkat(unix.AT_FDCWD, ownFiles+strconv.Itoa(f.fd), unix.AT_FDCWD, to, unix.AT_SYMLINK_FOLLOW)
	}
	_, err := d.inFolder(path, func() error { return link(path) })
	if err != unix.EEXIST {
		return err
	}
	temp := store.UnfinishedName(path)
	if err := link(temp); err != nil {
		return err
	}
	if err := unix.Rename(temp, path); err != nil {
		unix.Unlink(temp)
		return err
	}
	return nil
}

// wrote keeps the directory open for Sync, which reports what went wrong since.
func (d *Dir) wrote(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil {
		return nil
	}
	root, err := os.Open(d.dir)
	d.root = root
	return err
}

// Sync writes out the directory's file system: one call, where one for each
// object would take many times as long. It does so even if nothing was put: what
// was there may have been left by a run that was killed before it came to this.
func (d *Dir) Sync(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := d.wrote(""); err != nil {
		if missing(err) {
			return nil
		}
		return failed(d.dir, err)
	}
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return failed(d.dir, err)
	}
	return nil
}
