package tree

import (
	"context"
	"syscall"

	"golang.org/x/sync/errgroup"

	"caravel/catar"
)

// Confirm makes sure by the archive's own records that an entry is what the
// sidecar says, if there is one: place, name, type, mode, owner, time, size,
// target, device. It costs one read where the entry lies, the first time;
// nothing in a tree without a sidecar. A contradiction ([ErrContradicted]) is an
// error for this entry for ever, and from then on Confirm is ConfirmPath for all
// others.
func (t *Tree) Confirm(ctx context.Context, id ID) error {
	e := t.at(id)
	switch {
	case e == nil:
		return noEntry(id)
	case t.witness == nil:
		return nil
	case t.doubts():
		return t.ConfirmPath(ctx, id)
	}
	return t.confirmHead(ctx, id, e)
}

// ConfirmPath is Confirm, and also makes sure that the entry is where the tables
// of the directories above it say, from the root on, all in one round: for what
// is done on the word of an entry (an extraction: owners, set-id bits, devices).
func (t *Tree) ConfirmPath(ctx context.Context, id ID) error {
	if t.at(id) == nil {
		return noEntry(id)
	}
	if t.witness == nil {
		return nil
	}
	path, err := t.upwards(id)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, at := range path {
		e := t.at(at)
		if !t.witness.heads.has(uint32(at)) {
			g.Go(func() error { return t.confirmHead(ctx, at, e) })
		}
		if i > 0 && !t.witness.tables.has(e.extra) {
			g.Go(func() error { return t.confirmTable(ctx, at, e) })
		}
	}
	return g.Wait()
}

// upwards are an entry and the directories above it, unless one of them is not to
// be believed.
func (t *Tree) upwards(id ID) (path []ID, err error) {
	for {
		if err := t.witness.refusal(id); err != nil {
			return nil, err
		}
		path = append(path, id)
		if id == Root {
			return path, nil
		}
		id = t.at(id).parent
	}
}

// confirmHead compares an entry with its own records.
func (t *Tree) confirmHead(ctx context.Context, id ID, e *entry) error {
	w := t.witness
	if err := w.refusal(id); err != nil || w.heads.has(uint32(id)) {
		return err
	}
	_, err := w.head.do(ctx, id, func(ctx context.Context) (struct{}, error) {
		_, err := t.readHead(ctx, id, e)
		return struct{}{}, err
	})
	return err
}

// readHead reads an entry's records and compares them.
func (t *Tree) readHead(ctx context.Context, id ID, e *entry) (*catar.Node, error) {
	b, err := t.readRange(ctx, e.start(), t.headEnd(e))
	if err != nil {
		return nil, err
	}
	return t.checkHead(id, e, b)
}

// confirmTable compares a directory's children with its table.
func (t *Tree) confirmTable(ctx context.Context, id ID, e *entry) error {
	w := t.witness
	if err := w.refusal(id); err != nil || w.tables.has(e.extra) {
		return err
	}
	_, err := w.table.do(ctx, id, func(ctx context.Context) (struct{}, error) {
		b, err := t.readRange(ctx, t.dirs.at(e.extra).goodbye, e.end)
		if err == nil {
			err = t.checkTable(ctx, id, e, b)
		}
		return struct{}{}, err
	})
	return err
}

// believe is ConfirmPath once the sidecar was contradicted. Until then its word
// is enough.
func (t *Tree) believe(ctx context.Context, id ID) error {
	if !t.doubts() {
		return nil
	}
	return t.ConfirmPath(ctx, id)
}

// vouch makes sure, once the sidecar was contradicted, that what it says of a
// directory's children is so: which there are. The children themselves are
// another matter.
func (t *Tree) vouch(ctx context.Context, dir ID) error {
	if !t.doubts() {
		return nil
	}
	e, _, err := t.directory(dir)
	if err != nil {
		return err
	}
	if err := t.ConfirmPath(ctx, dir); err != nil {
		return err
	}
	return t.confirmTable(ctx, dir, e)
}

// Entry reads all of an entry from the archive, and if there is a sidecar
// confirms it.
func (t *Tree) Entry(ctx context.Context, id ID) (*catar.Node, error) {
	e := t.at(id)
	if e == nil {
		return nil, noEntry(id)
	}
	if t.witness != nil {
		if err := t.believe(ctx, id); err != nil {
			return nil, err
		}
		return t.readHead(ctx, id, e)
	}
	s := catar.Span{Start: e.start(), End: e.end}
	size := min(e.bodyAt()+header, s.End) - s.Start // up to what shows that the head is over
	if size > bigRead {
		size = headGuess // parseHead sees to it that the memory is there
	}
	b := make([]byte, size)
	if err := t.read(ctx, b, s.Start); err != nil {
		return nil, err
	}
	n, _, err := t.parseHead(ctx, b, s)
	if err != nil {
		return nil, err
	}
	n.Depth = int(e.depth)
	return n, nil
}

// Target is where a symbolic link points, by the sidecar if there is one; the
// error for all others matches syscall.EINVAL.
func (t *Tree) Target(ctx context.Context, id ID) (string, error) {
	e := t.at(id)
	switch {
	case e == nil:
		return "", noEntry(id)
	case e.mode&catar.ModeType != catar.ModeLink:
		return "", &nameError{t.Name(id), syscall.EINVAL}
	case e.bits&target != 0:
		if err := t.believe(ctx, id); err != nil {
			return "", err
		}
		return t.names.text(e.name, int(e.nameLen), int(e.extra)), nil
	}
	n, err := t.Entry(ctx, id)
	if err != nil {
		return "", err
	}
	return n.Target, nil
}
