package layers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"caravel/catar"
	"caravel/tarball"
)

// A node is one of the tree. Several names may be its.
type node struct {
	mode     uint32
	uid, gid uint32
	gone     bool // a directory that is in the tree no more
	mtime    int64
	more     *catar.Entry // all of it, if it has more than these and a size

	size int64
	src  io.ReaderAt // of a file that is not empty
	off  int64       // in src

	children map[string]child // of a directory; nil: it is empty
}

// A child is a name in a directory.
type child struct {
	*node
	layer int32 // that it is from
}

func (n *node) isDir() bool { return n != nil && n.mode&catar.ModeType == catar.ModeDir }

// leave says of a directory that is taken out of the tree, and of those in it, that
// they are gone.
func (n *node) leave() {
	n.gone = true
	for _, c := range n.children {
		if c.isDir() {
			c.leave()
		}
	}
}

// describe makes n what a member says, but for its content.
func (t *Tree) describe(n *node, m *tarball.Member) error {
	n.mode, n.uid, n.gid, n.mtime, n.more = m.Mode, m.UID, m.GID, m.MTime, nil
	e := &m.Entry
	named := e.User != "" || e.Group != "" || e.SELinux != "" || e.Target != ""
	if !named && e.FCaps == nil && e.XAttrs == nil && e.ACL == nil && e.Flags == 0 && !e.IsDevice() {
		return nil
	}
	more, cost := copied(*e)
	more.Size = 0
	n.more = more
	return t.take(cost)
}

// newNode makes a node of a member.
func (t *Tree) newNode(ctx context.Context, m *tarball.Member, r *tarball.Reader) (*node, error) {
	n := &node{size: m.Size}
	if err := errors.Join(t.take(nodeCost), t.describe(n, m)); err != nil {
		return nil, err
	}
	if n.size == 0 {
		return n, nil
	}
	if n.src, n.off = r.At(); n.src == nil {
		var err error
		n.src = t.spool
		if n.off, err = t.spool.Put(ctx, r, n.size); err != nil {
			return nil, fmt.Errorf("%q: %w", m.Name, err)
		}
	}
	t.opt.Progress.Add(n.size)
	return n, nil
}

// entry is what an archive says of n.
func (n *node) entry() *catar.Entry {
	if n.more != nil {
		e := *n.more
		e.Size = n.size
		return &e
	}
	return &catar.Entry{Mode: n.mode, UID: n.uid, GID: n.gid, MTime: n.mtime, Size: n.size}
}

// content are the bytes of a file.
func (n *node) content() *io.SectionReader { return io.NewSectionReader(n.src, n.off, n.size) }
