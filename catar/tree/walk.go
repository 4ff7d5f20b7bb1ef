package tree

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"

	"caravel/catar"
)

// A Step is an entry that a walk has come to.
type Step struct {
	Path string
	Attr
}

// Walk yields the entries below (and with) id, each directory before its
// children, in the archive's order, with their paths relative to id ("" is id
// itself). Whatever lies ahead is fetched in the meantime, breadth first.
// depth limits how far it goes below id; negative: no limit.
//
// An error ends the walk; its step is the directory that could not be read.
func (t *Tree) Walk(ctx context.Context, id ID, depth int) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		if t.at(id) == nil {
			yield(Step{}, noEntry(id))
			return
		}
		if err := t.believe(ctx, id); err != nil {
			yield(Step{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		w := &walk{t: t, ctx: ctx, patient: t.patient(ctx), root: id, depth: depth, yield: yield}
		defer w.ahead.Wait()
		defer cancel()
		w.visit(id, "", depth)
	}
}

// A walk is one that is under way.
type walk struct {
	t       *Tree
	ctx     context.Context // ends with the walk
	patient context.Context // the same, for what is fetched ahead
	root    ID
	depth   int
	yield   func(Step, error) bool

	slots chan struct{}  // of the reads, once there are any
	ahead sync.WaitGroup // what fetches ahead
}

// visit yields an entry and what is below it, as far as depth says. It reports
// whether to go on.
func (w *walk) visit(id ID, path string, depth int) bool {
	step := Step{path, w.t.Attr(id)}
	if !w.yield(step, nil) {
		return false
	}
	if depth == 0 || !isDir(step.Mode) {
		return true
	}
	all, err := w.children(id)
	if err != nil {
		if path != "" {
			err = fmt.Errorf("entry %q: %w", path, err)
		}
		w.yield(step, err)
		return false
	}
	if path != "" {
		path += "/"
	}
	for i := range all.n {
		if id := all.id(i); !w.visit(id, path+w.t.Name(id), depth-1) {
			return false
		}
	}
	return true
}

// children returns a directory's children. The first time that they have to be
// waited for, fetching ahead begins.
func (w *walk) children(id ID) (*children, error) {
	if w.ctx.Err() != nil {
		return nil, context.Cause(w.ctx)
	}
	_, d, err := w.t.directory(id)
	if err != nil {
		return nil, err
	}
	if d.all.Load() != nil {
		return w.t.children(w.ctx, id, nil)
	}
	if w.slots == nil {
		w.slots = w.t.slots().ch
		w.ahead.Go(func() { w.fetch() })
	}
	if w.t.opt.Ahead != nil && hurryOf(w.ctx).raised() {
		return w.t.children(w.ctx, id, nil) // it does not wait for those ahead
	}
	return w.t.children(w.ctx, id, w.slots)
}

// A job is a directory whose children are to be fetched.
type job struct {
	id     ID
	depth  int // how far to go below it
	hinted int // chunks that were told of, about
}

// fetch fetches all directories below the root of the walk, breadth first. What
// fails is left for visit to try again and to report.
func (w *walk) fetch() {
	type result struct {
		job
		all *children
	}
	queue, busy, hinted := []job{{id: w.root, depth: w.depth}}, 0, 0
	done := make(chan result)
	for len(queue) > 0 || busy > 0 {
		if len(queue) > 0 && busy < w.t.opt.InFlight && w.ctx.Err() == nil {
			j := queue[0]
			queue = queue[1:]
			busy++
			go func() {
				all, err := w.t.children(w.patient, j.id, w.slots)
				if err != nil {
					w.t.opt.Log.Debug("not fetched ahead", "entry", w.t.Name(j.id), "err", err)
				}
				done <- result{j, all}
			}()
			continue
		}
		if busy == 0 {
			return // cancelled
		}
		r := <-done
		busy--
		hinted -= r.hinted
		if r.all == nil || r.depth == 1 {
			continue
		}
		for i := range r.all.n {
			if j, ok := w.next(r.all.id(i), r.depth-1, &hinted); ok {
				queue = append(queue, j)
			}
		}
	}
}

// next makes a job of an entry if it is a directory whose children are not
// known, and tells of what it will read, as far as not too much was hinted at
// already.
func (w *walk) next(id ID, depth int, hinted *int) (job, bool) {
	j, t := job{id: id, depth: depth}, w.t
	if !isDir(t.entries.at(uint32(id)).mode) {
		return j, false
	}
	e, d, err := t.directory(id)
	if err != nil || d.all.Load() == noChildren {
		return j, false
	}
	room := hintsPerRead*t.opt.InFlight - *hinted
	if t.opt.Want == nil || room <= 0 {
		return j, true
	}
	if tb := d.table.Load(); tb != nil {
		j.hinted = t.hint(tb, room)
	} else if d.all.Load() == nil {
		from := cmp.Or(d.goodbye, e.end-catar.TailSize)
		t.opt.Want(from, min(e.end-from, bigRead))
		j.hinted = 1
	}
	*hinted += j.hinted
	return j, true
}
