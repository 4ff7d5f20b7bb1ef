package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"sync"

	"caravel/catar"
)

// Lookup finds a child of a directory by its name. The table and the child's
// head, with the tail of the table that a directory has itself, come in one
// round each.
func (t *Tree) Lookup(ctx context.Context, dir ID, name string) (Attr, error) {
	e, d, err := t.directory(dir)
	if err != nil {
		return Attr{}, err
	}
	if all := d.all.Load(); all != nil {
		return t.known(ctx, dir, all, name)
	}
	tb, err := t.table(ctx, dir, e, d)
	if err != nil {
		return Attr{}, err
	}
	spans := tb.Find(name)
	if len(spans) == 0 {
		return Attr{}, &nameError{name, fs.ErrNotExist}
	}
	if id, ok := t.seen(d, spans, name); ok {
		return t.entries.at(uint32(id)).attr(id), nil
	}
	f, err := t.candidates(ctx, tb, spans, dir, int(e.depth)+1, name)
	if err != nil {
		return Attr{}, err
	}
	id, err := t.join(d, f)
	if err != nil {
		return Attr{}, err
	}
	return t.entries.at(uint32(id)).attr(id), nil
}

// known finds a child of a directory of which all are known, and confirms it if
// the sidecar is in doubt.
func (t *Tree) known(ctx context.Context, dir ID, all *children, name string) (Attr, error) {
	if err := t.vouch(ctx, dir); err != nil {
		return Attr{}, err
	}
	a, err := t.pick(all, name)
	if err == nil {
		err = t.believe(ctx, a.ID)
	}
	return a, err
}

// pick finds a child by its name among all of a directory's.
func (t *Tree) pick(all *children, name string) (Attr, error) {
	at := func(i int) ID {
		if all.byName != nil {
			i = int(all.byName[i])
		}
		return all.id(i)
	}
	i, ok := sort.Find(all.n, func(i int) int { return strings.Compare(name, t.Name(at(i))) })
	if !ok {
		return Attr{}, &nameError{name, fs.ErrNotExist}
	}
	id := at(i)
	return t.entries.at(uint32(id)).attr(id), nil
}

// seen finds a child that was looked up before.
func (t *Tree) seen(d *dir, spans []catar.Span, name string) (ID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range spans {
		at, ok := t.one(d, s.Start+header+int64(len(name))+1)
		if ok && t.Name(d.single[at]) == name {
			return d.single[at], true
		}
	}
	return 0, false
}

// candidates reads the children that the table has under a name's hash, all at
// once (ParseTable sees to it that they are few), and returns the one with that
// name.
func (t *Tree) candidates(ctx context.Context, tb *catar.Table, spans []catar.Span, dir ID, depth int, name string) (found, error) {
	got, errs := make([]found, len(spans)), make([]error, len(spans))
	read := func(i int) {
		got[i], errs[i] = t.fetch(ctx, spans[i], dir, depth)
		if errs[i] == nil {
			errs[i] = belongs(tb, spans[i], got[i].name)
		}
	}
	var others sync.WaitGroup
	for i := range spans[1:] {
		others.Go(func() { read(i + 1) })
	}
	read(0)
	others.Wait()

	which := -1
	for i := range spans {
		switch {
		case errors.Is(errs[i], catar.ErrNoNode):
		case errs[i] != nil:
			return found{}, errs[i]
		case got[i].name == name && which >= 0:
			return found{}, duplicate(&got[i])
		case got[i].name == name:
			which = i
		}
	}
	if which < 0 {
		return found{}, &nameError{name, fs.ErrNotExist}
	}
	return got[which], nil
}

// join adds a child to those seen of a directory, unless it is among them.
func (t *Tree) join(d *dir, f found) (ID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := d.all.Load(); all != nil {
		a, err := t.pick(all, f.name)
		return a.ID, err
	}
	at, ok := t.one(d, f.head)
	if ok {
		return d.single[at], nil
	}
	id, err := t.add(f)
	if err != nil {
		return 0, err
	}
	d.single = slices.Insert(d.single, at, id)
	return id, nil
}

// Find follows a path of names joined by slashes from the root; "" and "." are
// the root. Symbolic links are not followed.
func (t *Tree) Find(ctx context.Context, path string) (Attr, error) {
	a := t.Attr(Root)
	if err := t.believe(ctx, Root); err != nil {
		return Attr{}, err
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		var err error
		if a, err = t.Lookup(ctx, a.ID, name); err != nil {
			return Attr{}, inPath(path, err)
		}
	}
	return a, nil
}

// inPath makes of an error that concerns one of a path's names one that names
// the path.
func inPath(path string, err error) error {
	if e, ok := errors.AsType[*nameError](err); ok {
		return &nameError{path, e.err}
	}
	return fmt.Errorf("entry %q: %w", path, err)
}
