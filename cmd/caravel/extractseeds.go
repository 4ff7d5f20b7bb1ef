package main

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"caravel/seed"
	"caravel/store"
)

// seededTree extracts the tree of an index, with what seeds have of it.
func (e *extraction) seededTree(ctx context.Context, from *lazyOpener, img *openedImage) (any, error) {
	if err := e.checkTree(); err != nil {
		return nil, err
	}
	e.shown.Total(img.Index.Size())
	named := e.seeds.seeds(img.Index, e.in, from.log)
	defer named.Close()
	old := e.oldTree(img)
	defer old.Close()
	sets := []*seed.Set{named, old}
	e.index, e.sets = img.Index, sets
	if err := named.Index(ctx, nil); err != nil {
		return nil, err
	}
	err := old.Index(ctx, func(row int) bool {
		_, _, ok := named.Find(*img.Index.ID(row))
		return !ok
	})
	if err != nil {
		return nil, err
	}
	stores := []store.Store{img.store}
	for i := len(sets) - 1; i >= 0; i-- {
		if len(sets[i].Seeds()) > 0 {
			stores = append([]store.Store{sets[i]}, stores...)
		}
	}
	if len(stores) > 1 {
		img.store = store.Router(from.log, stores...)
	}
	if e.seeds.reflink {
		e.share = func(off, n int64, use func(file *os.File, at, start, size int64) bool) {
			for _, s := range sets {
				s.Runs(off, n, use)
			}
		}
	}
	a, _ := from.indexed(img)
	return e.tree(ctx, from, a)
}

// oldTree is what the target holds, as a seed: if there is a network between it and the
// chunks, else these are read sooner than it. What it loses while it is written to is fetched,
// which is no reason to warn anybody.
func (e *extraction) oldTree(img *openedImage) *seed.Set {
	// A target that has much more than the tree, a home directory, is not read to its end.
	s := seed.New(img.Index, seed.Options{Most: 2*img.Index.Size() + 64<<20})
	if !e.seeds.output || !img.remote {
		return s
	}
	at := e.out
	if e.path != "" {
		at = filepath.Join(at, path.Base(e.path))
	}
	if st, err := os.Lstat(at); err == nil && (st.Mode().IsRegular() || st.IsDir() || e.path == "") {
		_ = s.Add(at) // what cannot be read is no seed
	}
	return s
}
