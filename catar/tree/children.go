package tree

import "context"

// A Child is an entry of a directory with its name.
type Child struct {
	Name string
	Attr
}

// Children are a directory's, in the archive's order. Their heads are fetched
// together. It needs the head of every child and nothing else of them: what of a
// file's payload or a directory's table cannot be read is no concern of it. A
// head that cannot be read fails it, since the name is in there: a list that
// lacks one would be taken for all there is. Lookup finds the others.
func (t *Tree) Children(ctx context.Context, dir ID) ([]Child, error) {
	all, err := t.children(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	list := make([]Child, all.n)
	for i := range list {
		id := all.id(i)
		e := t.entries.at(uint32(id))
		list[i] = Child{t.names.text(e.name, 0, int(e.nameLen)), e.attr(id)}
	}
	return list, nil
}

// children returns all of a directory's children. Each read takes a slot: one of
// a walk's, or if shared is nil one of as many as the options say.
func (t *Tree) children(ctx context.Context, id ID, shared chan struct{}) (*children, error) {
	e, d, err := t.directory(id)
	if err != nil {
		return nil, err
	}
	if all := d.all.Load(); all != nil {
		return all, t.vouchAll(ctx, id, all)
	}
	return t.lists.do(ctx, id, func(ctx context.Context) (*children, error) {
		if all := d.all.Load(); all != nil {
			return all, nil // the flight before this one has just landed
		}
		slots := &slots{ch: shared, shared: true}
		if shared == nil {
			slots = t.slots()
		}
		slot, err := slots.take(ctx)
		if err != nil {
			return nil, err
		}
		tb, err := t.table(ctx, id, e, d)
		<-slot
		if err != nil {
			return nil, err
		}
		return newLoader(t, id, e, tb, slots).load(ctx, d)
	})
}

// vouchAll is vouch, and makes sure of each of the children.
func (t *Tree) vouchAll(ctx context.Context, id ID, all *children) error {
	if !t.doubts() {
		return nil
	}
	if err := t.vouch(ctx, id); err != nil {
		return err
	}
	for i := range all.n {
		if err := t.witness.refusal(all.id(i)); err != nil {
			return err
		}
	}
	return t.confirmPlaces(ctx, func(yield func(place) bool) {
		for i := range all.n {
			if child := all.id(i); !t.witness.heads.has(uint32(child)) && !yield(t.headOf(child)) {
				return
			}
		}
	})
}
