package restore

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// A dir is an open directory of the target. It lives until the decoder has left
// it and everything in it is done; then it gets its own metadata.
type dir struct {
	in    *dir
	name  string // in in; "": the outermost
	fd    int
	at    int64 // where in the archive
	entry catar.Entry

	fresh   bool                // made by this run: nobody else's names are in it
	foreign bool                // not in the archive: gets nothing
	mode    uint32              // of an existing one that had to be opened up
	opened  bool                // it had to
	plain   bool                // what is made in it inherits no flags
	left    map[string]struct{} // what was in it before and was not named since
	long    []string            // long files that former runs did not complete

	users atomic.Int32 // the decoder, nodes being made, directories in it
	lock  sync.Once    // see claim
}

// openTarget opens the directory that the user named, or makes it as e, if that
// is what it becomes.
func (r *run) openTarget(e *catar.Entry) (*dir, error) {
	d := &dir{}
	err := d.openNamed(r.out)
	if err == unix.ENOENT {
		if err = r.makeTarget(e); err == nil {
			d.fresh = true
			err = d.openNamed(r.out)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %s: %w", r.out, err)
	}
	d.users.Store(1)
	r.top = d
	return d, nil
}

// openNamed opens d by a path, links in it followed.
func (d *dir) openNamed(path string) (err error) {
	d.fd, err = open(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return err
}

func (r *run) makeTarget(e *catar.Entry) error {
	if e == nil {
		return again(func() error { return unix.Mkdir(r.out, 0o777) })
	}
	var in dir
	above, name := filepath.Split(strings.TrimRight(r.out, "/"))
	if err := in.openNamed(cmp.Or(above, ".")); err != nil {
		return err
	}
	defer in.close()
	return r.mkdir(&in, name, e)
}

// fill takes d as the directory of n, to which the following nodes go.
func (r *run) fill(d *dir, n *catar.Node) {
	d.entry, d.at = r.keep(&n.Entry), n.Start
	r.enterInto(d)
}

// enterInto makes d the innermost directory, ready to be written to.
func (r *run) enterInto(d *dir) {
	r.dirs = append(r.dirs, d)
	if err := r.ready(d); err != nil {
		r.fail(d.at, d.failed("", err))
	}
}

func (r *run) ready(d *dir) error {
	if err := r.remember(d); err != nil {
		return err
	}
	if !d.fresh && r.opt.UndoImmutable && sealed(d.fd, "") {
		if err := thaw(d.fd, ""); err != nil {
			return err
		}
	}
	if !d.foreign {
		if err := r.excuse(d, "", r.set.Prepare(d.fd, &d.entry)); err != nil {
			return err
		}
	}
	inherits, err := r.set.Inherits(d.fd)
	if err != nil {
		return err
	}
	d.plain = !inherits
	if d.fresh {
		return nil
	}
	if err := r.openUp(d); err != nil {
		return err
	}
	return r.inventory(d)
}

// openUp gives the owner of an existing directory the right to write to it. A
// failing run takes it back.
func (r *run) openUp(d *dir) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if !r.shut(&st) {
		return nil
	}
	if !d.opened {
		d.mode, d.opened = st.Mode&0o7777, true
	}
	return unix.Fchmod(d.fd, st.Mode&0o7777|0o700)
}

// shut reports whether a directory is ours and not to be used by us as it is.
func (r *run) shut(st *unix.Stat_t) bool {
	return r.user != 0 && int(st.Uid) == r.user && st.Mode&0o700 != 0o700
}

// tries is how often something is begun again that another process undoes.
const tries = 100

// openDir opens the directory name in d, or makes it. Whatever else has the
// name is removed; a link is not followed.
func (r *run) openDir(in *dir, name string, e *catar.Entry) (*dir, error) {
	for range tries {
		err := r.mkdir(in, name, e)
		child := &dir{in: in, name: name, fresh: err == nil}
		if err != nil && err != unix.EEXIST {
			return nil, err
		}
		err = r.enter(child, in.fd)
		switch {
		case err == nil && in.fresh && !child.fresh:
			child.close()
			return nil, errTaken
		case err == nil:
			if child.fresh && e.Flags&feature.Subvolume != 0 {
				_ = unix.Fchmod(child.fd, r.dirMode()) // it has the user's umask
			}
			child.users.Store(1)
			in.users.Add(1)
			return child, nil
		case err == unix.ENOTDIR || err == unix.ELOOP:
			if in.fresh {
				return nil, errTaken
			}
			err := r.unsealing(in.fd, name, func() error { return unlink(in.fd, name, 0) })
			if err != nil && err != unix.ENOENT && err != unix.EISDIR {
				return nil, err
			}
		case err != unix.ENOENT:
			return nil, err
		}
	}
	return nil, errBusy
}

// errTaken says that a directory which is ours alone has a name already.
var errTaken = errors.New("the name is taken by a node restored before (does the file system tell upper from lower case?), or by another process")

// mkdir makes the directory name, or a subvolume if e was one.
func (r *run) mkdir(in *dir, name string, e *catar.Entry) error {
	if r.flags&e.Flags&feature.Subvolume == 0 {
		return again(func() error { return unix.Mkdirat(in.fd, name, r.dirMode()) })
	}
	err := inode.MakeSubvolume(in.fd, name)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := r.excuse(in, name, noSubvolume(err)); err != nil {
		return err
	}
	return again(func() error { return unix.Mkdirat(in.fd, name, r.dirMode()) })
}

// enter opens d in the directory in for reading. If it is ours and we may not,
// we first allow it to ourselves.
func (r *run) enter(d *dir, in int) (err error) {
	const flags = unix.O_DIRECTORY | unix.O_NOFOLLOW
	if d.fd, err = open(in, d.name, unix.O_RDONLY|flags, 0); err != unix.EACCES {
		return err
	}
	handle, err := open(in, d.name, unix.O_PATH|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return err
	}
	if !r.shut(&st) {
		return unix.EACCES
	}
	if err := unix.Chmod(procName(handle), st.Mode&0o7777|0o700); err != nil {
		return err
	}
	d.mode, d.opened = st.Mode&0o7777, true
	d.fd, err = open(handle, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return err
}

// release ends one use of d. The last one finishes it.
func (r *run) release(d *dir) {
	for d != nil && d.users.Add(-1) == 0 {
		if r.failed.Load() {
			d.giveBack()
		} else if err := r.finish(d); err != nil {
			r.fail(d.at, err)
			d.giveBack()
		}
		d.close()
		d = d.in
	}
}

// finish removes from d what the archive has not, and gives d its metadata:
// whatever was done in it would have changed its time.
func (r *run) finish(d *dir) error {
	r.sweepLong(d)
	if err := r.tidy(d); err != nil {
		return err
	}
	if d.foreign {
		d.giveBack()
		return nil
	}
	err := r.excuse(d, "", r.set.Set(d.fd, &d.entry))
	if err == nil {
		err = r.excuse(d, "", r.set.Seal(d.fd, &d.entry))
	}
	if err != nil {
		return d.failed("", err)
	}
	return nil
}

// giveBack undoes openUp, as far as it goes.
func (d *dir) giveBack() {
	if d.opened {
		_ = unix.Fchmod(d.fd, d.mode)
	}
}

func (d *dir) close() { unix.Close(d.fd) }

// path is where d is in the archive.
func (d *dir) path(name string) string {
	for ; d != nil; d = d.in {
		name = path.Join(d.name, name)
	}
	if name == "" {
		return "."
	}
	return name
}

// failed says where err happened.
func (d *dir) failed(name string, err error) error {
	return fmt.Errorf("restore: %q: %w", d.path(name), err)
}

// remember keeps a descriptor on each file system that is written to, for sync.
func (r *run) remember(d *dir) error {
	if r.opt.NoSync || d.fresh && d.in != nil {
		return nil // as its parent
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if _, ok := r.mounts[uint64(st.Dev)]; ok {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		r.mounts[uint64(st.Dev)] = fd
	}
	return err
}
