package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// Roots are the chunks of some images: of all that use a store, of those that others are made
// after.
type Roots struct {
	ids    []chunker.ID
	sorted int // of ids, in order and each once; those behind are as they came
}

// Add adds those of an image.
func (r *Roots) Add(x *index.Index) {
	for i := range x.Len() {
		r.ids = append(r.ids, x.Chunk(i).ID)
	}
	if len(r.ids) > 2*r.sorted { // most of a next version are those of the one before
		r.sort()
	}
}

func (r *Roots) sort() {
	if r.sorted == len(r.ids) {
		return
	}
	slices.SortFunc(r.ids, compareIDs)
	r.ids = slices.Compact(r.ids)
	r.sorted = len(r.ids)
}

// has reports whether an image has a chunk, of roots that are sorted.
func (r *Roots) has(id chunker.ID) bool {
	_, ok := slices.BinarySearchFunc(r.ids, id, compareIDs)
	return ok
}

func compareIDs(a, b chunker.ID) int { return bytes.Compare(a[:], b[:]) }

// PruneOptions tunes Prune. The zero value is a good choice.
type PruneOptions struct {
	// Age is how old, by its time in the store, a chunk has to be that is removed: what
	// is younger may be of an image whose index is just being made. 0: a day; < 0: any.
	Age time.Duration

	DryRun   bool                          // nothing is removed
	Workers  int                           // things that are done at one time; 0: 16
	Removed  func(name string, size int64) // is told what is removed, by one goroutine at a time; nil: nobody is
	Progress *atomic.Int64                 // counts objects that were looked at; nil: nobody looks
}

// Pruned is what a Prune has done.
type Pruned struct {
	Kept    int64 // chunks of images
	Young   int64 // chunks of none that are too young
	Removed int64 // chunks of none, and what writers had left
	Bytes   int64 // of these, as they were stored
}

// Prune removes the chunks of a backend that no image has, and what writers have left
// there. It touches nothing else. The backend must be able to list its objects
// (store.Lister), to say how old they are (store.Statter), and to remove them.
func Prune(ctx context.Context, b store.Blobs, roots *Roots, opt PruneOptions) (Pruned, error) {
	list, lists := b.(store.Lister)
	if !lists {
		return Pruned{}, fmt.Errorf("image: %v: does not say which chunks it has; prune it where they lie", b)
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	if opt.Age == 0 {
		opt.Age = 24 * time.Hour
	}
	roots.sort()
	p := &pruning{opt: opt, roots: roots, than: time.Now().Add(-max(opt.Age, 0))}
	if opt.Age < 0 {
		p.than = time.Now().Add(24 * time.Hour) // another machine's clock may be ahead
	}
	var err error
	if p.remove, err = remover(b, opt.DryRun); err != nil {
		return Pruned{}, err
	}
	err = p.each(ctx, list)
	if puts, ok := b.(store.Putter); ok && err == nil && p.got.Removed > 0 && !opt.DryRun {
		err = puts.Sync(ctx)
	}
	return p.got, err
}

// pruning is one Prune.
type pruning struct {
	opt    PruneOptions
	roots  *Roots
	than   time.Time // what is younger stays
	remove removing

	mu  sync.Mutex // guards got, and that Removed is called by one
	got Pruned
}

// removing removes an object that is not younger than a time. info is the object's; that
// of one that is not there any more has no time.
type removing func(ctx context.Context, name string, than time.Time) (removed bool, info store.Info, err error)

// An olderDeleter removes nothing that somebody has just found.
type olderDeleter interface {
	DeleteOlder(ctx context.Context, name string, than time.Time) (removed bool, info store.Info, err error)
}

// remover is how a backend's objects are removed.
func remover(b store.Blobs, dryRun bool) (removing, error) {
	stat, stats := b.(store.Statter)
	del, deletes := b.(store.Deleter)
	if !stats || !deletes {
		return nil, fmt.Errorf("image: %v: nothing can be removed there", b)
	}
	if older, ok := b.(olderDeleter); ok && !dryRun {
		return older.DeleteOlder, nil
	}
	return func(ctx context.Context, name string, than time.Time) (bool, store.Info, error) {
		info, err := stat.Stat(ctx, name)
		switch {
		case errors.Is(err, store.ErrMissing):
			return false, store.Info{}, nil
		case err != nil || info.ModTime.After(than):
			return false, info, err
		case info.ModTime.IsZero():
			return false, info, fmt.Errorf("image: %v: does not say how old %s is", b, name)
		case dryRun:
			return true, info, nil
		}
		return true, info, del.Delete(ctx, name)
	}, nil
}

// each looks at all objects.
func (p *pruning) each(ctx context.Context, list store.Lister) error {
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(p.opt.Workers, 16))
	for name, err := range names(each, list) {
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		p.opt.Progress.Add(1)
		if n, ok := store.ParseName(name); ok && p.roots.has(n.ID) {
			p.count(func(got *Pruned) { got.Kept++ })
		} else if ok || store.Unfinished(name) {
			g.Go(func() error { return p.look(each, name) })
		}
	}
	return cmp.Or(context.Cause(ctx), g.Wait())
}

// look removes an object of which nobody has need, unless it is young.
func (p *pruning) look(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	removed, info, err := p.remove(ctx, name, p.than)
	if err != nil {
		return err
	}
	p.count(func(got *Pruned) {
		switch {
		case removed:
			got.Removed++
			got.Bytes += info.Size
			if p.opt.Removed != nil {
				p.opt.Removed(name, info.Size)
			}
		case !info.ModTime.IsZero():
			got.Young++
		}
	})
	return nil
}

func (p *pruning) count(add func(got *Pruned)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add(&p.got)
}
