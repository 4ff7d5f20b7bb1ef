package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A name is an entry of a directory as the file system lists it.
type name struct {
	name string
	dir  bool // may be a directory; if not, it is none
}

// list reads the directory fd from its beginning.
func list(fd int) ([]name, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var names []name
	buf := make([]byte, 32<<10)
	for {
		var n int
		err := again(func() (err error) { n, err = unix.Getdents(fd, buf); return err })
		if err != nil || n <= 0 {
			return names, err
		}
		names = appendNames(names, buf[:n])
	}
}

// appendNames takes the kernel's records apart: inode and offset of 8 bytes each,
// the record's length of 2, a type of 1, the name up to a zero.
func appendNames(names []name, b []byte) []name {
	for len(b) > 19 {
		n := int(binary.NativeEndian.Uint16(b[16:]))
		if n < 20 || n > len(b) {
			break
		}
		text, _, _ := strings.Cut(string(b[19:n]), "\x00")
		if text != "." && text != ".." {
			names = append(names, name{text, b[18] == unix.DT_DIR || b[18] == unix.DT_UNKNOWN})
		}
		b = b[n:]
	}
	return names
}

// inventory notes what is in a directory that was there before, and removes
// what a killed run left in it.
func (r *run) inventory(d *dir) error {
	names, err := list(d.fd)
	if err != nil {
		return err
	}
	swept := false
	for _, n := range names {
		switch {
		case hasForm(n.name, longSuffix):
			d.long = append(d.long, n.name)
		case !swept && isPart(n.name):
			sweep(d.fd, names)
			swept = true
		}
	}
	if r.opt.Delete != DeleteExtra || d.foreign {
		return nil
	}
	d.left = make(map[string]struct{}, len(names))
	for _, n := range names {
		if !isPart(n.name) {
			d.left[n.name] = struct{}{}
		}
	}
	return nil
}

// tidy removes what the archive has not.
func (r *run) tidy(d *dir) error {
	for name := range d.left {
		n, err := r.remove(d.fd, name, 0)
		r.deleted.Add(n)
		if err != nil {
			return d.failed(name, fmt.Errorf("remove: %w", explain(d.fd, name, err)))
		}
	}
	return nil
}

// clear removes a directory that is in the way of another type of node.
func (r *run) clear(in *dir, name string) error {
	if r.opt.Delete == DeleteExtra {
		n, err := r.remove(in.fd, name, 0)
		r.deleted.Add(n)
		return err
	}
	err := r.unsealing(in.fd, name, func() error { return unlink(in.fd, name, unix.AT_REMOVEDIR) })
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return errors.New("in its place is a directory that is not empty; --delete=yes removes it")
	}
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil // somebody else was here; the next try will tell
	}
	return err
}

// maxDepth bounds the descriptors and the stack that removing takes: the
// longest path that a program can use has so many directories.
const maxDepth = 2048

// remove removes the node name, with all that is in it, and counts. It follows
// no link and leaves what is mounted alone.
func (r *run) remove(in int, name string, depth int) (count int64, err error) {
	for range tries {
		err = r.unsealing(in, name, func() error { return unlink(in, name, 0) })
		if err == nil {
			return count + 1, nil
		}
		if err == unix.ENOENT {
			return count, nil
		}
		if err != unix.EISDIR {
			return count, err
		}
		n, err := r.empty(in, name, depth)
		count += n
		if err != nil && err != unix.ENOTDIR && err != unix.ELOOP && err != unix.ENOENT {
			return count, err
		}
		err = r.unsealing(in, name, func() error { return unlink(in, name, unix.AT_REMOVEDIR) })
		if err == nil {
			return count + 1, nil
		}
		if err != unix.ENOTEMPTY && err != unix.EEXIST && err != unix.ENOTDIR && err != unix.ENOENT {
			return count, err
		}
	}
	return count, errBusy
}

// empty removes what is in the directory name.
func (r *run) empty(in int, name string, depth int) (count int64, err error) {
	d := &dir{name: name}
	if err := r.enter(d, in); err != nil {
		return 0, err
	}
	defer d.close()
	if depth >= maxDepth {
		return 0, fmt.Errorf("more than %d directories in one another", maxDepth)
	}
	if mountOf(d.fd) != mountOf(in) {
		return 0, errors.New("something is mounted there")
	}
	if r.opt.UndoImmutable && sealed(d.fd, "") {
		if err := thaw(d.fd, ""); err != nil {
			return 0, err
		}
	}
	if err := r.openUp(d); err != nil {
		return 0, err
	}
	names, err := list(d.fd)
	if err != nil {
		return 0, err
	}
	for _, child := range names {
		n, err := r.remove(d.fd, child.name, depth+1)
		count += n
		if err != nil {
			return count, fmt.Errorf("%q: %w", child.name, err)
		}
	}
	return count, nil
}

// A mount tells where in the tree of mounts something is. Devices would not do:
// one can be mounted at two places, and a btrfs has many.
type mount struct {
	id           uint64
	major, minor uint32
}

func mountOf(fd int) mount {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return mount{}
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		return mount{id: st.Mnt_id}
	}
	return mount{major: st.Dev_major, minor: st.Dev_minor} // before Linux 5.8
}

// refuseExtra refuses a directory that holds what is not among names.
func refuseExtra(out string, root int, names iter.Seq2[string, error]) error {
	c := counter{out: out}
	defer func() { c.leave(0) }()
	if err := c.enter(root, ""); err != nil {
		return err
	}
	if names != nil {
		for p, err := range names {
			if err != nil {
				return err
			}
			if _, _, _, err := c.visit(p); err != nil {
				return err
			}
		}
	}
	if err := c.leave(0); err != nil {
		return err
	}
	if c.count == 0 {
		return nil
	}
	return &ExtraError{Dir: out, Count: c.count, First: c.first, Unknown: names == nil}
}

// refuseExtraIn is refuseExtra for the directory name in dir, if it is one.
func refuseExtraIn(out string, dir int, name string, names iter.Seq2[string, error]) error {
	fd, err := open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
		return refuseExtra(path.Join(out, name), fd, names)
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil
	}
	return fmt.Errorf("restore: %s: %w", path.Join(out, name), err)
}

// A counter goes through the target beside the archive's paths and counts what
// is in the target only.
type counter struct {
	out   string
	stack []level
	count int
	first string
	tell  func(path string) // of each; nil: nobody listens
}

// A level is a directory that both have.
type level struct {
	path string
	fd   int
	own  bool // the descriptor is ours
	left map[string]bool
}

// visit takes p, a path that the archive has, and says where that is in the target, if it is.
func (c *counter) visit(p string) (fd int, name string, ok bool, err error) {
	in, base := path.Split(p)
	in = strings.TrimSuffix(in, "/")
	for len(c.stack) > 1 && c.stack[len(c.stack)-1].path != in {
		if top := c.stack[len(c.stack)-1].path; strings.HasPrefix(in, top+"/") {
			return 0, "", false, nil // below a directory that the target has not
		}
		if err := c.leave(len(c.stack) - 1); err != nil {
			return 0, "", false, err
		}
	}
	top := &c.stack[len(c.stack)-1]
	if top.path != in {
		return 0, "", false, nil
	}
	dir, ok := top.left[base]
	delete(top.left, base)
	fd = top.fd
	if dir {
		err = c.descend(fd, base, p)
	}
	return fd, base, ok, err
}

// descend goes to the directory name, if it is one.
func (c *counter) descend(in int, name, p string) error {
	fd, err := open(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return c.failed(p, err)
	}
	if err := c.enter(fd, p); err != nil {
		unix.Close(fd)
		return err
	}
	c.stack[len(c.stack)-1].own = true
	return nil
}

func (c *counter) enter(fd int, p string) error {
	names, err := list(fd)
	if err != nil {
		return c.failed(p, err)
	}
	left := make(map[string]bool, len(names))
	for _, n := range names {
		if !isPart(n.name) {
			left[n.name] = n.dir
		}
	}
	c.stack = append(c.stack, level{path: p, fd: fd, left: left})
	return nil
}

// leave goes up to depth directories and counts what is left in the others.
func (c *counter) leave(depth int) (err error) {
	for len(c.stack) > depth {
		top := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		for name, dir := range top.left {
			p := path.Join(top.path, name)
			if err == nil {
				c.add(p)
			}
			if dir && err == nil {
				err = c.below(top.fd, name, p, 0)
			}
		}
		if top.own {
			unix.Close(top.fd)
		}
	}
	return err
}

func (c *counter) add(p string) {
	if c.count == 0 || p < c.first {
		c.first = p
	}
	c.count++
	if c.tell != nil {
		c.tell(p)
	}
}

// below counts what is in the directory name, if it is one.
func (c *counter) below(in int, name, p string, depth int) error {
	fd, err := open(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil || depth >= maxDepth {
		return nil // it is counted itself, which is enough to refuse
	}
	defer unix.Close(fd)
	if mountOf(fd) != mountOf(in) {
		return nil
	}
	names, err := list(fd)
	if err != nil {
		return c.failed(p, err)
	}
	for _, n := range names {
		child := path.Join(p, n.name)
		c.add(child)
		if n.dir {
			if err := c.below(fd, n.name, child, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *counter) failed(p string, err error) error {
	return fmt.Errorf("restore: %s: %q: %w", c.out, p, err)
}
