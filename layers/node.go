package layers

import (
	"context"
	"fmt"
	"io"

	"caravel/catar"
	"caravel/tarball"
)

// A node is one of the tree. Several names may be its.
type node struct {
	mode     uint32
	uid, gid uint32
	mtime    int64
	more     *catar.Entry // all of it, if it has more than these and a size

	size int64
	src  io.ReaderAt // of a file that is not empty
	off  int64       // in src

	children map[string]child // of a directory
}

// A child is a name in a directory.
type child struct {
	*node
	layer int32 // that it is from
}

func (n *node) isDir() bool { return n != nil && n.mode&catar.ModeType == catar.ModeDir }

// impliedDir is a directory of which nothing was said.
func impliedDir() *node {
	return &node{mode: catar.ModeDir | 0o755, children: map[string]child{}}
}

// maxExtra bounds what is kept in memory of nodes beside what each of them has: a few
// bytes of a stream that is packed can say a lot of it.
const maxExtra = 256 << 20

// describe makes n what a member says, but for its content.
func (t *Tree) describe(n *node, m *tarball.Member) error {
	n.mode, n.uid, n.gid, n.mtime, n.more = m.Mode, m.UID, m.GID, m.MTime, nil
	e := m.Entry
	size := int64(len(e.User) + len(e.Group) + len(e.Target) + len(e.SELinux) + len(e.FCaps))
	for _, x := range e.XAttrs {
		size += int64(len(x.Name) + len(x.Value))
	}
	const device, list = 8, 512
	if e.ACL != nil {
		size += list
	}
	if e.IsDevice() {
		size += device
	}
	if size == 0 && e.Flags == 0 {
		return nil
	}
	if t.extra += size; t.extra > maxExtra {
		return fmt.Errorf("layers: attributes of more than %d bytes", maxExtra)
	}
	e.Size = 0
	n.more = &e
	return nil
}

// newNode makes a node of a member.
func (t *Tree) newNode(ctx context.Context, m *tarball.Member, r *tarball.Reader) (*node, error) {
	n := &node{size: m.Size}
	if m.IsDir() {
		n.children = map[string]child{}
	}
	if err := t.describe(n, m); err != nil {
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
