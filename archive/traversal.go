package archive

import (
	"context"
	"slices"
	"sync"

	"caravel/catar/tree"
)

// proofOfTraversal is how many directories are listed, each a child of one of
// those before it, until it is believed that all below the first one will be.
const proofOfTraversal = 4

// A Traversal is a tree for those who list it directory by directory, as find
// and ls -R do: one after the other each would cost a round trip or two. From
// the fourth one on, all below the first is fetched ahead, with many requests in
// flight.
type Traversal struct {
	*tree.Tree
	ahead func(dir tree.ID)

	mu     sync.Mutex // guards what follows
	listed []tree.ID  // the last ones
	begun  []tree.ID  // below these, all is fetched
}

// NewTraversal watches the listings of t. ahead is called for a directory below
// which everything is to be fetched; it must not wait.
func NewTraversal(t *tree.Tree, ahead func(dir tree.ID)) *Traversal {
	return &Traversal{Tree: t, ahead: ahead}
}

// Children is that of the tree.
func (t *Traversal) Children(ctx context.Context, dir tree.ID) ([]tree.Child, error) {
	if !t.Known() {
		t.list(dir)
	}
	return t.Tree.Children(ctx, dir)
}

// list notes a listing, and begins to fetch ahead if it is one of many.
func (t *Traversal) list(dir tree.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.listed, dir) || t.isBelow(dir) {
		return
	}
	if !slices.Contains(t.listed, t.Parent(dir)) {
		t.listed = t.listed[:0] // somewhere else
	}
	if t.listed = append(t.listed, dir); len(t.listed) == proofOfTraversal {
		t.begun = append(t.begun, t.listed[0])
		t.ahead(t.listed[0])
		t.listed = t.listed[:0]
	}
}

// isBelow reports whether a directory is, or is below, one that was begun.
func (t *Traversal) isBelow(dir tree.ID) bool {
	for len(t.begun) > 0 {
		if slices.Contains(t.begun, dir) {
			return true
		}
		if dir == tree.Root || dir == 0 {
			break
		}
		dir = t.Parent(dir)
	}
	return false
}
