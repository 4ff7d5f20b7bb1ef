package layers

import (
	"errors"
	"io"
	"path"
	"strings"

	"caravel/catar"
)

// maxLinks is how many symbolic links may be on a way, as in Linux.
const maxLinks = 40

// walk goes to the directory that names lead to, by links too. Those that are not
// there are made if make says so; else the directory is nil then.
func (t *Tree) walk(names []string, make bool) (*node, error) {
	path := []*node{t.root}
	todo, links := names, 0
	for len(todo) > 0 {
		name, dir := todo[0], path[len(path)-1]
		todo = todo[1:]
		switch {
		case name == "" || name == ".":
			continue
		case name == ".." && len(path) > 1:
			path = path[:len(path)-1]
			continue
		case name == ".." && !t.opt.Layered:
			return nil, refuse(errLeads)
		case name == "..":
			continue // above a container's root is its root
		}
		n := dir.children[name].node
		switch {
		case n.isDir():
			path = append(path, n)
		case n == nil && !make:
			return nil, nil
		case n == nil:
			if err := catar.CheckName(name); err != nil {
				return nil, refuse(err) // of a link's target
			}
			n, err := t.newDir()
			if err := errors.Join(err, t.name(dir, name, n)); err != nil {
				return nil, err
			}
			path = append(path, n)
		case n.mode&catar.ModeType != catar.ModeLink:
			return nil, refuse(errNotDir)
		case links == maxLinks:
			return nil, refuse(errLinks)
		default:
			links++
			target := n.more.Target
			if strings.HasPrefix(target, "/") {
				if !t.opt.Layered {
					return nil, refuse(errLeads)
				}
				path = path[:1]
			}
			todo = append(strings.Split(target, "/"), todo...)
		}
		if len(path) >= catar.MaxDepth {
			return nil, refuse(errDeep)
		}
	}
	return path[len(path)-1], nil
}

// find is the node that names lead to, without following a link that it is itself;
// nil if there is none.
func (t *Tree) find(names []string) (*node, error) {
	if len(names) == 0 {
		return t.root, nil
	}
	at, err := t.placeOf(names)
	if at.dir == nil || err != nil {
		return nil, err
	}
	return at.dir.children[at.base].node, nil
}

// placeOf is where names lead; in no directory if that is not there.
func (t *Tree) placeOf(names []string) (place, error) {
	dir, err := t.walk(names[:len(names)-1], false)
	return place{dir, names[len(names)-1]}, err
}

// What a layer calls what it removes.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	aufs     = ".wh..wh." // other names that begin so were aufs's own
)

// whiteOut does what a member says that is there to remove something of former
// layers.
func (t *Tree) whiteOut(dir *node, base string) error {
	switch {
	case base == opaque:
		for name := range dir.children {
			t.prune(dir, name)
		}
	case strings.HasPrefix(base, aufs):
	default:
		name := strings.TrimPrefix(base, whiteout)
		if err := catar.CheckName(name); err != nil {
			return refuse(err)
		}
		t.prune(dir, name)
	}
	return nil
}

// prune removes what former layers have of a name, and reports whether something of
// this one is left.
func (t *Tree) prune(dir *node, name string) (left bool) {
	c := dir.children[name]
	if c.isDir() {
		for below := range c.children {
			left = t.prune(c.node, below) || left
		}
	}
	if c.node == nil || c.layer == t.layer || left {
		return c.node != nil
	}
	if c.isDir() {
		c.leave()
	}
	delete(dir.children, name)
	return false
}

// Open is the content of the regular file at a path, also by links, for who wants
// something of a stream rather than its tree; nil if there is none. It is read while
// nothing is added to the tree.
func (t *Tree) Open(name string) (*io.SectionReader, error) {
	if err := t.spool.Seal(); err != nil {
		return nil, err
	}
	at := name
	for range maxLinks {
		n, err := t.find(strings.Split(path.Clean("/" + at)[1:], "/"))
		switch {
		case err != nil:
			return nil, err
		case n == nil || n.isDir():
			return nil, nil
		case n.mode&catar.ModeType == catar.ModeRegular && n.size == 0:
			return io.NewSectionReader(strings.NewReader(""), 0, 0), nil
		case n.mode&catar.ModeType == catar.ModeRegular:
			return n.content(), nil
		case n.mode&catar.ModeType != catar.ModeLink:
			return nil, nil
		}
		at = path.Join(path.Dir(at), n.more.Target)
	}
	return nil, refuse(errLinks)
}
