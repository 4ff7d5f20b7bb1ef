package walk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/exclude"
	"caravel/catar/inode"
	"caravel/feature"
)

// errStop ends the scout after it said why in the stream, or when nobody
// listens any more.
var errStop = errors.New("stop")

// A scout goes through the directories in the order of the stream and hands
// their nodes to the workers.
type scout struct {
	*Reader
	batch *batch // the one that is filled; nil: none yet
	buf   []byte // for getdents
}

// run goes through the whole tree.
func (s *scout) run(root *dir) {
	s.buf = make([]byte, 128<<10)
	if s.walk(root, exclude.Rules{}) == nil {
		s.flush()
	}
	if s.batch != nil {
		s.batch.reset()
	}
}

// walk hands out d, which was opened and is kept, and all that is below. It
// releases d. The only error is errStop.
func (s *scout) walk(d *dir, rules exclude.Rules) error {
	defer d.release()
	children, err := s.list(d)
	if err != nil {
		return s.unread(d, "", err)
	}
	own, err := s.rules(d, children)
	if err != nil {
		return s.fail(d, exclude.Name, err)
	}
	rules = rules.With(own)

	if err := s.add(node{place: opened, in: d, name: d.inside()}); err != nil {
		return err
	}
	for _, c := range children.all {
		if err := s.child(d, string(children.of(c)), c.Type(), rules); err != nil {
			return err
		}
	}
	return s.add(node{place: closed, in: d})
}

// inside is the name of d in the archive, where the root has none.
func (d *dir) inside() string {
	if d.up == nil {
		return ""
	}
	return d.name
}

// list lists what of d is packed.
func (s *scout) list(d *dir) (*names, error) {
	if d.virtual {
		return new(names), nil
	}
	return list(d.fd, s.buf)
}

// child hands out one child of d with all that is below, unless it is left out.
func (s *scout) child(d *dir, name string, listed uint8, rules exclude.Rules) error {
	typ := uint32(listed) << 12 // as the kernel makes one of the other
	if listed == unix.DT_UNKNOWN || listed == unix.DT_WHT {
		var err error
		if typ, err = typeOf(d.fd, name); err != nil {
			return s.unread(d, name, err)
		}
	}
	isDir := typ == unix.S_IFDIR
	if !kept(s.flags, typ) || rules.Excludes(name, isDir) {
		s.count.excluded.Add(1)
		return nil
	}
	if d.depth == catar.MaxDepth {
		return s.fail(d, name, fmt.Errorf("more than %d levels deep", catar.MaxDepth))
	}
	if isDir {
		return s.enter(d, name, rules)
	}
	return s.add(node{place: leaf, in: d, name: name, typ: typ})
}

// kept reports whether an archive with flags f keeps nodes of type typ.
func kept(f feature.Flags, typ uint32) bool {
	switch typ {
	case unix.S_IFLNK:
		return f&feature.Symlinks != 0
	case unix.S_IFBLK, unix.S_IFCHR:
		return f&feature.DeviceNodes != 0
	case unix.S_IFIFO:
		return f&feature.FIFOs != 0
	case unix.S_IFSOCK:
		return f&feature.Sockets != 0
	}
	return true
}

// enter opens the child directory name and walks it, unless it is left out.
func (s *scout) enter(up *dir, name string, rules exclude.Rules) error {
	if len(s.todo) == 0 {
		s.flush() // what follows may wait for a disk; the workers need not
	}
	fd, err := open(up.fd, name, unix.S_IFDIR)
	if err != nil {
		return s.unread(up, name, err)
	}
	d := &dir{up: up, name: name, fd: fd, depth: up.depth + 1}
	d.hold()
	out, err := s.examine(d)
	if err != nil || out {
		d.release()
	}
	if err != nil {
		return s.unread(up, name, err)
	}
	if out {
		return nil
	}
	return s.walk(d, rules.Below(name))
}

// examine finds out what d is, and whether it is left out.
func (s *scout) examine(d *dir) (out bool, err error) {
	if err := check(d.fd, unix.S_IFDIR, &d.st); err != nil {
		return false, err
	}
	if out, err = s.leftOut(d.fd, &d.st, &d.up.st); out || err != nil {
		return out, err
	}
	if d.virtual, err = virtual(d.fd, &d.st, d.up); err == nil {
		d.ctime, err = ctimeOf(d.fd, &d.st, d.up)
	}
	return false, err
}

// leftOut reports whether the file or directory fd is left out for what it is.
// Of those the mounts are: what is neither, casync does not look at the mount
// of.
func (r *Reader) leftOut(fd int, st, up *unix.Statx_t) (bool, error) {
	if r.leaveOut[inodeOf(st)] {
		r.count.leftOut.Add(1)
		return true, nil
	}
	out := r.flags&feature.ExcludeSubmounts != 0 && !sameMount(st, up)
	if !out && r.flags&feature.ExcludeNoDump != 0 {
		var err error
		if out, err = r.inodes.NoDump(fd, st); err != nil {
			return false, told{err}
		}
	}
	if out {
		r.count.excluded.Add(1)
	}
	return out, nil
}

// virtual reports whether fd in the directory up lies on a file system whose
// content is not packed; nil for the root.
func virtual(fd int, st *unix.Statx_t, up *dir) (bool, error) {
	if up != nil && sameDevice(st, &up.st) {
		return up.virtual, nil
	}
	v, err := inode.Virtual(fd)
	return v, tell(err)
}

// ctimeOf is what the times of change are worth of fd in the directory up; nil for the root.
func ctimeOf(fd int, st *unix.Statx_t, up *dir) (inode.Ctime, error) {
	if up != nil && sameDevice(st, &up.st) {
		return up.ctime, nil
	}
	c, err := inode.CtimeOf(fd)
	return c, tell(err)
}

// rules reads the rules that d has itself.
func (s *scout) rules(d *dir, children *names) (exclude.Rules, error) {
	if s.flags&feature.ExcludeFile == 0 || !children.has(exclude.Name) {
		return exclude.Rules{}, nil
	}
	fd, err := open(d.fd, exclude.Name, unix.S_IFREG)
	if err == errGone {
		return exclude.Rules{}, nil
	}
	if err != nil && err != errChanged {
		return exclude.Rules{}, err
	}
	var st unix.Statx_t
	if err == nil {
		f := os.NewFile(uintptr(fd), exclude.Name)
		defer f.Close()
		if err = check(fd, unix.S_IFREG, &st); err == nil {
			own, err := exclude.Read(f)
			return own, tell(err)
		}
	}
	if err == errChanged {
		err = errors.New("the rules must be in a regular file")
	}
	return exclude.Rules{}, err
}

// add hands a node out.
func (s *scout) add(n node) error {
	if s.batch == nil {
		select {
		case s.batch = <-s.free:
		case <-s.ctx.Done():
			return errStop
		}
	}
	n.fd = -1
	if n.place != closed {
		n.in.hold()
		n.held = true
	}
	s.batch.nodes[s.batch.n] = n
	s.batch.n++
	if s.batch.n == batchNodes {
		s.flush()
	}
	return nil
}

// flush hands over the batch. There is room for all batches in both channels.
func (s *scout) flush() {
	if s.batch != nil {
		s.todo <- s.batch
		s.ordered <- s.batch
		s.batch = nil
	}
}

// unread passes over the child name of d if it is gone; any other error ends
// the stream at this place.
func (s *scout) unread(d *dir, name string, err error) error {
	if err == errGone && (name != "" || d.up != nil) {
		s.vanished(d.path(name))
		return nil
	}
	return s.fail(d, name, err)
}

// fail ends the stream at this place.
func (s *scout) fail(d *dir, name string, err error) error {
	if s.add(node{place: leaf, in: d, name: name, err: errorAt(d.path(name), err)}) == nil {
		s.flush()
	}
	return errStop
}
