package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// make makes the node of j, a directory excepted.
func (r *run) make(j *job) (err error) {
	if j.entry.IsRegular() {
		err = r.file(j)
	} else {
		err = r.special(j)
	}
	return explain(j.in.fd, j.name, err)
}

// file makes a regular file, unless it is there.
func (r *run) file(j *job) error {
	old := r.formerOf(j)
	if old != nil {
		defer unix.Close(old.fd)
		same, err := old.matches(r, j)
		if err != nil {
			return err
		}
		if same {
			return r.keepFile(j, old)
		}
	}
	p, err := r.newFile(j)
	if err != nil {
		return err
	}
	err = r.complete(p, j, old)
	if closeErr := p.discard(); err == nil {
		err = closeErr
	}
	if err == nil {
		r.bytes.Add(j.entry.Size)
	}
	return err
}

// keepFile leaves the former file where it is, or gives its name to an equal one.
func (r *run) keepFile(j *job, old *former) error {
	r.bytes.Add(j.entry.Size)
	if r.link(j) {
		r.linked.Add(1)
		return nil
	}
	r.kept.Add(1)
	r.rememberFile(j, old.fd)
	return nil
}

// complete fills p and gives it its name.
func (r *run) complete(p *part, j *job, old *former) error {
	if !j.in.plain || inode.Early(&j.entry) {
		if err := r.excuse(j.in, j.name, r.set.Prepare(p.fd, &j.entry)); err != nil {
			return err
		}
	}
	if err := r.content(p, j, old); err != nil {
		return err
	}
	if r.link(j) {
		r.linked.Add(1)
		p.long = false
		return nil
	}
	if err := r.excuse(j.in, j.name, r.set.Set(p.fd, &j.entry)); err != nil {
		return err
	}
	if j.entry.Flags&(feature.Append|feature.Immutable) != 0 {
		return r.publishSealed(p, j)
	}
	if err := p.publish(r, j.name); err != nil {
		return err
	}
	r.rememberFile(j, p.fd)
	return nil
}

// publishSealed gives a name to a file that will be immutable, which cannot be
// given one then. First it is seen whether it may be made so.
func (r *run) publishSealed(p *part, j *job) error {
	if err := r.excuse(j.in, j.name, r.set.Seal(p.fd, &j.entry)); err != nil {
		return err
	}
	flags, err := unix.IoctlGetUint32(p.fd, unix.FS_IOC_GETFLAGS)
	if err == unix.ENOTTY || err == unix.EOPNOTSUPP || err == unix.ENOSYS { // it has got none, which was excused
		flags, err = 0, nil
	}
	if err == nil && flags&sealFlags != 0 {
		err = unix.IoctlSetPointerInt(p.fd, unix.FS_IOC_SETFLAGS, int(flags&^sealFlags))
	}
	if err != nil {
		return err
	}
	if err := p.publish(r, j.name); err != nil || flags&sealFlags == 0 {
		return err
	}
	return r.set.Seal(p.fd, &j.entry)
}

// content writes the payload.
func (r *run) content(p *part, j *job, old *former) (err error) {
	w := writer{fd: p.fd, fill: r.opt.Fill, early: !r.opt.NoSync}
	if p.had > 0 {
		w.shared = []extent{{0, p.had}}
	} else {
		w.shared = r.share(p.fd, j, old)
		defer func() { r.shared.Add(w.kept) }()
	}
	if j.whole != nil {
		j.digest(*j.whole)
		err = w.write(*j.whole)
	} else if old != nil {
		err = old.copyTo(&w, r)
	}
	if err != nil {
		return err
	}
	for b := range blocks(j) {
		j.digest(*b)
		if err = w.write(*b); err != nil {
			break
		}
		r.pool.put(b)
	}
	switch {
	case err != nil:
		return err
	case j.blocks != nil && j.cut:
		return errCut
	}
	return w.end(p.had)
}

// errCut says that the decoder gave up, which says why.
var errCut = errors.New("cut short")

// blocks yields the pieces of a long file.
func blocks(j *job) func(yield func(*[]byte) bool) {
	return func(yield func(*[]byte) bool) {
		if j.blocks == nil {
			return
		}
		if b := j.first; b != nil {
			j.first = nil
			if !yield(b) {
				return
			}
		}
		for b := range j.blocks {
			if !yield(b) {
				return
			}
		}
	}
}

// special makes a link, device, FIFO or socket.
func (r *run) special(j *job) error {
	if r.keptNode(j) {
		r.kept.Add(1)
		return nil
	}
	j.in.claim()
	name, err := r.mknod(j)
	if err != nil {
		return r.excuse(j.in, j.name, refused(&j.entry, err))
	}
	if err = r.excuse(j.in, j.name, r.dress(j, name)); err == nil {
		err = r.move(j.in, name, j.name)
	}
	if err != nil {
		_ = unlink(j.in.fd, name, 0)
	}
	return err
}

// mknod makes the node under the name of a part.
func (r *run) mknod(j *job) (name string, err error) {
	e := &j.entry
	for range tries {
		name = newPart()
		err = again(func() error {
			if e.IsSymlink() {
				return unix.Symlinkat(e.Target, j.in.fd, name)
			}
			return unix.Mknodat(j.in.fd, name, e.Mode&unix.S_IFMT|r.fileMode(), int(device(e)))
		})
		if err != unix.EEXIST {
			break
		}
	}
	return name, err
}

func device(e *catar.Entry) uint64 {
	if !e.IsDevice() {
		return 0
	}
	return unix.Mkdev(e.Major, e.Minor)
}

// dress sets the metadata of the node name.
func (r *run) dress(j *job, name string) error {
	fd, err := open(j.in.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := isOurs(fd, &j.entry); err != nil {
		return err
	}
	return r.set.Set(fd, &j.entry)
}

// isOurs refuses to go on with a node that somebody has put in the place of the
// one which was made a moment ago. One that has another name elsewhere, too,
// never was in the target alone.
func isOurs(fd int, e *catar.Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	ours := st.Mode&unix.S_IFMT == e.Mode&unix.S_IFMT && st.Nlink == 1 && (!e.IsDevice() || uint64(st.Rdev) == device(e))
	if ours && e.IsSymlink() {
		b := make([]byte, len(e.Target)+1)
		n, err := unix.Readlinkat(fd, "", b)
		ours = err == nil && string(b[:n]) == e.Target
	}
	if !ours {
		return errBusy
	}
	return nil
}

var errBusy = errors.New("another process keeps changing it")

// refused says of a node that cannot be made here what would leave it out.
func refused(e *catar.Entry, err error) error {
	if err != unix.EPERM && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	switch {
	case e.IsSymlink():
		return &inode.RefusedError{Feature: feature.Symlinks, What: "symbolic link", Err: err}
	case e.IsFIFO():
		return &inode.RefusedError{Feature: feature.FIFOs, What: "FIFO", Err: err}
	case e.IsSocket():
		return &inode.RefusedError{Feature: feature.Sockets, What: "socket", Err: err}
	}
	return &inode.RefusedError{Feature: feature.DeviceNodes, What: fmt.Sprintf("device %d:%d", e.Major, e.Minor), Err: err}
}
