package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
)

// Many who do everything at once see one tree.
func TestManyReaders(t *testing.T) {
	b := wide(t, 400)
	whole := open(t, b)
	if _, err := everything(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for step := range whole.Walk(t.Context(), tree.Root, -1) {
		paths = append(paths, step.Path)
	}
	for round := range 5 {
		tr := open(t, b)
		var ids sync.Map // from a path to its ID
		check := func(path string, a tree.Attr) {
			if id, _ := ids.LoadOrStore(path, a.ID); id != a.ID || tr.Attr(a.ID) != a {
				t.Errorf("%q: %+v; %v before", path, a, id)
			}
			want, err := whole.Find(t.Context(), path)
			if want.ID = a.ID; err != nil || want != a {
				t.Errorf("%q: %+v, want %+v, %v", path, a, want, err)
			}
		}
		var all sync.WaitGroup
		for g := range 16 {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(g)))
			all.Go(func() { readAll(t, tr, paths, rng, check) })
		}
		all.Wait()
		if got, err := everything(t.Context(), tr); err != nil || len(got) != len(paths) || tr.Len() != len(paths) {
			t.Errorf("%d paths of %d, %d entries, %v", len(got), len(paths), tr.Len(), err)
		}
	}
}

func readAll(t *testing.T, tr *tree.Tree, paths []string, rng *rand.Rand, check func(string, tree.Attr)) {
	for range 150 {
		path := paths[rng.IntN(len(paths))]
		ctx, cancel := context.WithCancel(t.Context())
		if rng.IntN(10) == 0 {
			go cancel()
		}
		a, err := tr.Find(ctx, path)
		if err == nil {
			check(path, a)
			_, err = tr.Entry(ctx, a.ID)
		}
		if err == nil && rng.IntN(20) == 0 {
			if path != "" {
				path += "/"
			}
			for step, e := range tr.Walk(ctx, a.ID, rng.IntN(3)-1) {
				if err = e; err == nil && step.Path != "" {
					check(path+step.Path, step.Attr)
				}
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%q: %v", path, err)
		}
		cancel()
	}
}

// Readers of one directory wait for one read, and one who leaves takes it from
// nobody but himself. When all have left, nothing is read any more.
func TestJoined(t *testing.T) {
	m := newMaker(t, flags)
	for i := range 1000 {
		m.file(fmt.Sprintf("%04d", i), 0)
	}
	b := m.bytes()
	synctest.Test(t, func(t *testing.T) {
		alone := newOrigin(bytes.NewReader(b), int64(len(b)))
		tr, err := tree.Open(t.Context(), alone, alone.size, tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Children(t.Context(), tree.Root); err != nil {
			t.Fatal(err)
		}
		for leaving := range 5 {
			o := newOrigin(bytes.NewReader(b), int64(len(b)))
			tr, err := tree.Open(t.Context(), o, o.size, tree.Options{})
			if err != nil {
				t.Fatal(err)
			}
			o.got = make(map[int64]chan struct{})
			var all sync.WaitGroup
			for i := range 4 {
				ctx, cancel := context.WithCancelCause(t.Context())
				if i < leaving {
					time.AfterFunc(o.delay/2, func() { cancel(errBroken) })
				}
				all.Go(func() {
					defer cancel(nil)
					list, err := tr.Children(ctx, tree.Root)
					if i < leaving && !errors.Is(err, errBroken) || i >= leaving && (err != nil || len(list) != 1000) {
						t.Errorf("reader %d of which %d leave: %d children, %v", i, leaving, len(list), err)
					}
				})
			}
			all.Wait()
			if o.reads.Load() > alone.reads.Load() || o.now.Load() != 0 {
				t.Errorf("%d reads, %d for one reader; %d under way", o.reads.Load(), alone.reads.Load(), o.now.Load())
			}
			if list, err := tr.Children(t.Context(), tree.Root); err != nil || len(list) != 1000 {
				t.Errorf("afterwards %d children, %v", len(list), err)
			}
		}
	})
}

// Many who confirm everything at once, while the archive contradicts its sidecar
// in one place or in none, agree on what is to be believed.
func TestManyConfirm(t *testing.T) {
	said := sorts(t, nil)
	for name, change := range map[string]func(string, *catar.Entry) string{
		"true":  nil,
		"false": one("setid", func(e *catar.Entry) { e.Mode |= 0o2000 }),
	} {
		truth := sorts(t, change)
		s := readSidecar(t, skimmed(t, said), len(said))
		for round := range 20 {
			tr, dropped := dropping(t, s, memory(truth))
			synctest.Test(t, func(t *testing.T) { // which fails if something goes on waiting
				var all sync.WaitGroup
				for g := range 8 {
					rng := rand.New(rand.NewPCG(uint64(round), uint64(g)))
					all.Go(func() { confirmSome(t, tr, rng, change == nil) })
				}
				all.Wait()
			})
			if err := *dropped.Load(); errors.Is(err, tree.ErrContradicted) != (change != nil) {
				t.Errorf("%s: dropped since %v", name, err)
			}
			believedIsTrue(t, tr, truth)
		}
	}
}

func confirmSome(t *testing.T, tr *tree.Tree, rng *rand.Rand, good bool) {
	for range 20 {
		id := tree.ID(1 + rng.IntN(tr.Len()))
		ctx, cancel := context.WithCancel(t.Context())
		left := rng.IntN(8) == 0
		if left {
			go cancel()
		}
		var err error
		switch rng.IntN(9) {
		case 0:
			err = tr.ConfirmAll(ctx)
		case 1:
			err = tr.ConfirmPath(ctx, id)
		case 2:
			_, err = tr.Entry(ctx, id)
		case 3:
			_, err = tr.Children(ctx, tr.Parent(id))
		case 4:
			_, err = tr.Lookup(ctx, tr.Parent(id), tr.Name(id))
			if id == tree.Root {
				err = nil // which has no name
			}
		case 5:
			err = tr.ConfirmBelow(ctx, id)
		case 6:
			for _, e := range tr.Walk(ctx, id, -1) {
				err = e
			}
		case 7:
			if tr.Attr(id).Mode&catar.ModeType == catar.ModeLink {
				_, err = tr.Target(ctx, id)
			}
		default:
			err = tr.Confirm(ctx, id)
		}
		cancel()
		switch {
		case err == nil, left && errors.Is(err, context.Canceled):
		case good || !errors.Is(err, tree.ErrContradicted):
			t.Error(err)
		}
	}
}
