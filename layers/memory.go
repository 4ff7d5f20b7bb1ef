package layers

import (
	"fmt"
	"slices"
	"strings"

	"caravel/catar"
)

// maxMemory bounds what a tree takes of memory: 20 million files or more, while a few
// bytes of a stream that is packed can speak of any number of nodes, and say a lot of
// each. What was replaced is counted, too: one cannot tell who else has it.
const maxMemory = 4 << 30

// What there is of memory behind a pointer, as Go's allocator rounds it up.
const (
	nodeCost    = 80
	moreCost    = 192 // of a catar.Entry
	nameCost    = 64  // in a map that grows by doubling
	mapCost     = 336 // of the first name in a directory
	aclCost     = 64
	granteeCost = 32  // a catar.ACLEntry
	xattrCost   = 48  // a catar.XAttr, its name and value rounded up
	pendingCost = 192 // a pendingLink in its map
)

// take counts bytes of memory.
func (t *Tree) take(n int) error {
	if t.memory += int64(n); t.memory > t.opt.Memory {
		return fmt.Errorf("layers: the nodes of the tree take more than %d bytes of memory", t.opt.Memory)
	}
	return nil
}

// newDir is a directory of which nothing was said.
func (t *Tree) newDir() (*node, error) {
	return &node{mode: catar.ModeDir | 0o755}, t.take(nodeCost)
}

// name gives a node a name. The name is copied, as it may be a part of a long header.
func (t *Tree) name(dir *node, base string, n *node) error {
	if dir.children == nil {
		dir.children = map[string]child{}
		if err := t.take(mapCost); err != nil {
			return err
		}
	}
	if old, there := dir.children[base]; !there {
		if err := t.take(nameCost + len(base)); err != nil {
			return err
		}
	} else if old.isDir() && old.node != n {
		old.leave()
	}
	dir.children[strings.Clone(base)] = child{n, t.layer}
	return nil
}

// copied is an entry that shares no bytes with the header that it is from, and what it
// takes of memory.
func copied(e catar.Entry) (*catar.Entry, int) {
	cost := moreCost
	text := func(s *string) {
		*s = strings.Clone(*s)
		cost += len(*s)
	}
	grantees := func(list *[]catar.ACLEntry) {
		*list = slices.Clone(*list)
		for i := range *list {
			text(&(*list)[i].Name)
		}
		cost += len(*list) * granteeCost
	}
	for _, s := range []*string{&e.User, &e.Group, &e.SELinux, &e.Target} {
		text(s)
	}
	cost += len(e.FCaps)
	e.XAttrs = slices.Clone(e.XAttrs)
	for i := range e.XAttrs {
		text(&e.XAttrs[i].Name)
		cost += xattrCost + len(e.XAttrs[i].Value)
	}
	if e.ACL != nil {
		acl := *e.ACL
		e.ACL = &acl
		cost += aclCost
		grantees(&acl.Users)
		grantees(&acl.Groups)
		if acl.Default != nil {
			inherited := *acl.Default
			acl.Default = &inherited
			cost += aclCost
			grantees(&inherited.Users)
			grantees(&inherited.Groups)
		}
	}
	return &e, cost
}
