package layers

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"caravel/tarball"
)

// hardLink gives a node that is there another name. If it is not there yet that is
// done at the end.
func (t *Tree) hardLink(at place, names []string, m *tarball.Member) error {
	target, err := t.split(m.Hard)
	if err != nil {
		return err
	}
	n, err := t.find(target)
	if err != nil {
		return err
	}
	if n == nil {
		link := pendingLink{t.links, strings.Join(names, "/"), strings.Join(target, "/")}
		t.links++
		at.base = strings.Clone(at.base) // of a header
		t.pending[at] = link
		return t.take(pendingCost + len(at.base) + len(link.name) + len(link.target))
	}
	if n.isDir() {
		return refuse(errLinkDir)
	}
	return t.put(at.dir, at.base, n)
}

// linkPending makes the hard links whose target came behind them.
func (t *Tree) linkPending() error {
	inOrder := slices.SortedFunc(maps.Keys(t.pending), func(a, b place) int {
		return cmp.Compare(t.pending[a].order, t.pending[b].order)
	})
	for _, at := range inOrder {
		if _, left := t.pending[at]; !left {
			continue
		}
		if err := t.linkChain(at); err != nil {
			return err
		}
	}
	return nil
}

// linkChain follows a link to one that leads to a node, and makes all on the way.
func (t *Tree) linkChain(at place) error {
	chain, seen := []place{at}, map[place]bool{at: true}
	target, err := t.placeOf(strings.Split(t.pending[at].target, "/"))
	for err == nil && !seen[target] {
		next, also := t.pending[target]
		if !also {
			break
		}
		chain, seen[target] = append(chain, target), true
		target, err = t.placeOf(strings.Split(next.target, "/"))
	}
	var n *node
	if err == nil && target.dir != nil {
		n = target.dir.children[target.base].node
	}
	switch {
	case err != nil:
	case seen[target]:
		err = errCircle
	case n == nil:
		err = errNowhere
	case n.isDir():
		err = errLinkDir
	}
	for _, at := range chain {
		link := t.pending[at]
		delete(t.pending, at)
		failed := err
		if failed == nil {
			failed = t.linkTo(at, link.name, n)
		}
		var no *refusal
		if failed != nil && err == nil && !errors.As(failed, &no) {
			return failed
		}
		if failed != nil {
			t.Lost.Add(link.name, "%v", failed)
		}
	}
	return nil
}

// linkTo makes a place one of n. If its directory has been taken out of the tree since
// the link was seen, that is where its name leads now, unless something is there.
func (t *Tree) linkTo(at place, name string, n *node) error {
	if at.dir.gone {
		var err error
		names := strings.Split(name, "/")
		if at.dir, err = t.walk(names[:len(names)-1], true); err != nil {
			return err
		}
		if _, taken := at.dir.children[at.base]; taken {
			return nil
		}
	}
	return t.put(at.dir, at.base, n)
}
