package tree

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"
)

// Complete reads whatever is not known yet of the whole archive, in the
// background, through Options.Ahead; with a sidecar it is ConfirmAll. It stops at
// the first error; what was read by then is known to the next call.
func (t *Tree) Complete(ctx context.Context) error {
	if t.witness != nil {
		return t.ConfirmAll(ctx)
	}
	for _, err := range t.Walk(t.patient(ctx), Root, -1) {
		if err != nil {
			return err
		}
	}
	return nil
}

// ConfirmAll compares all of a sidecar with the archive, in the background,
// through Options.Ahead: the records of every entry, and every table with the
// children that the sidecar says the directory has. Since each entry begins
// where the one before it ends, the first one at 0 and the last one ending with
// the archive, nothing is left over in which there could be something else. It
// returns nil at once in a tree without a sidecar. It stops at the first error;
// what it has confirmed by then it does not read again.
func (t *Tree) ConfirmAll(ctx context.Context) error {
	if t.witness == nil {
		return nil
	}
	return t.confirmPlaces(t.patient(ctx), func(yield func(place) bool) { t.places(Root, yield) })
}

// ConfirmBelow is ConfirmPath, and compares all that the sidecar says to be below
// the entry as well: for what is decided by which names there are.
func (t *Tree) ConfirmBelow(ctx context.Context, id ID) error {
	if err := t.ConfirmPath(ctx, id); err != nil || t.witness == nil {
		return err
	}
	return t.confirmPlaces(ctx, func(yield func(place) bool) { t.places(id, yield) })
}

// A place is where the archive says something that the sidecar says as well: an
// entry's records, or a directory's table.
type place struct {
	id       ID
	table    bool
	off, end int64
}

// headOf is where an entry's records are.
func (t *Tree) headOf(id ID) place {
	e := t.at(id)
	return place{id: id, off: e.start(), end: t.headEnd(e)}
}

// places yields those of an entry and all below it that are not confirmed, in
// the archive's order, and reports whether to go on.
func (t *Tree) places(id ID, yield func(place) bool) bool {
	w, e := t.witness, t.at(id)
	if !w.heads.has(uint32(id)) && !yield(t.headOf(id)) {
		return false
	}
	if !isDir(e.mode) {
		return true
	}
	d := t.dirs.at(e.extra)
	all := d.all.Load()
	for i := range all.n {
		if !t.places(all.id(i), yield) {
			return false
		}
	}
	return w.tables.has(e.extra) || yield(place{id: id, table: true, off: d.goodbye, end: e.end})
}

// A stretch is a range that is read at once, and the places in it.
type stretch struct {
	off, end int64
	places   []place
	nth      int // of the chunks, about
}

// stretches joins places that lie near one another.
func stretches(places iter.Seq[place]) iter.Seq[stretch] {
	return func(yield func(stretch) bool) {
		var s stretch
		for p := range places {
			if len(s.places) > 0 && p.off-s.end <= maxGap && p.end-s.off <= maxRun {
				s.end = max(s.end, p.end)
				s.places = append(s.places, p)
				continue
			}
			if len(s.places) > 0 && !yield(s) {
				return
			}
			s = stretch{off: p.off, end: p.end, places: []place{p}}
		}
		if len(s.places) > 0 {
			yield(s)
		}
	}
}

// confirmPlaces reads places, given in the archive's order, many at one time,
// and says some time before what it will read.
func (t *Tree) confirmPlaces(ctx context.Context, places iter.Seq[place]) error {
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(t.opt.InFlight)
	read := func(s stretch) { g.Go(func() error { return t.confirmStretch(reading, s) }) }
	var told []stretch
	from, nth := int64(-chunk), 0
	for s := range stretches(places) {
		if reading.Err() != nil {
			break
		}
		if t.opt.Want == nil {
			read(s)
			continue
		}
		if s.end > from+chunk {
			from, nth = s.off, nth+1
		}
		t.opt.Want(s.off, s.end-s.off)
		s.nth = nth
		told = append(told, s)
		for nth-told[0].nth >= hintsPerRead*t.opt.InFlight {
			read(told[0])
			told = told[1:]
		}
	}
	for _, s := range told {
		read(s)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ended(ctx)
}

// confirmStretch reads a stretch and compares what is in it.
func (t *Tree) confirmStretch(ctx context.Context, s stretch) error {
	var b []byte
	var err error
	if s.end-s.off <= maxRun {
		p := buffers.Get().(*[maxRun]byte)
		defer buffers.Put(p)
		b = p[:s.end-s.off]
		err = t.read(ctx, b, s.off)
	} else {
		b, err = t.readRange(ctx, s.off, s.end)
	}
	if err != nil {
		return err
	}
	for _, p := range s.places {
		e, b := t.at(p.id), b[p.off-s.off:p.end-s.off]
		if p.table {
			err = t.checkTable(ctx, p.id, e, b)
		} else {
			_, err = t.checkHead(p.id, e, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
