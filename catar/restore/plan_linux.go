package restore

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// Plan says what Tree would do to dir, and changes nothing. nodes are those of the archive
// with the root, each directory followed by what is in it; have are its flags. A node whose
// type, size, time, mode and owners are right counts as one that is kept: its bytes and
// attributes are not compared. What dir has more comes after the directory that it is in.
func Plan(dir string, have feature.Flags, nodes iter.Seq2[Planned, error], opt Options, tell func(path string, what Action)) error {
	r := newRun(context.Background(), nil, dir, opt)
	defer r.end()
	r.flags = have.Masked(r.opt.Mask)
	r.set = inode.NewSetter(r.flags)
	r.set.Shift = opt.Shift
	c := counter{out: dir, tell: func(path string) {
		switch opt.Delete {
		case DeleteExtra:
			tell(path, Remove)
		case RefuseExtra:
			tell(path, Extra)
		}
	}}
	defer func() { c.leave(0) }()
	root, err := open(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	there := err == nil
	switch {
	case there:
		defer unix.Close(root)
		if err := c.enter(root, ""); err != nil {
			return err
		}
	case err != unix.ENOENT:
		return fmt.Errorf("restore: %s: %w", dir, err)
	}
	for n, err := range nodes {
		if err != nil {
			return err
		}
		what := Create
		switch {
		case n.Path == "" && there:
			what = r.action(root, "", &n.Entry)
		case there:
			in, name, ok, err := c.visit(n.Path)
			if err != nil {
				return err
			}
			if ok {
				what = r.action(in, name, &n.Entry)
			}
		}
		if !r.wanted(&n.Entry) { // what is there in its place stays
			continue
		}
		tell(n.Path, what)
	}
	return c.leave(0)
}

// action is what happens to the node name in the directory in.
func (r *run) action(in int, name string, e *catar.Entry) Action {
	var st unix.Stat_t
	if err := unix.Fstatat(in, name, &st, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Create
	}
	have := catar.Entry{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano(),
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev)),
	}
	want := *e
	if e.IsRegular() {
		have.Size = st.Size
	}
	if e.IsSymlink() {
		have.Mode = e.Mode&^unix.S_IFMT | have.Mode&unix.S_IFMT // that of a link says nothing
		have.Target = e.Target
		if e.Size != 0 && e.Size != st.Size {
			return Replace
		}
		want.Size = 0
	}
	if have.Mode&unix.S_IFMT != want.Mode&unix.S_IFMT || !r.sameEntry(&have, &want) {
		return Replace
	}
	return Keep
}
