package main

import (
	"context"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

// syncing counts.
type syncing struct {
	store.Writer
	puts, syncs int
}

func (s *syncing) Put(ctx context.Context, c *store.Chunk) error {
	s.puts++
	return s.Writer.Put(ctx, c)
}

func (s *syncing) Sync(ctx context.Context) error {
	s.syncs++
	return s.Writer.Sync(ctx)
}

// TestExchangedWriter syncs what was put where it was put.
func TestExchangedWriter(t *testing.T) {
	writer := func() *syncing {
		w, err := store.Writable(storetest.NewMemory(nil), store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		return &syncing{Writer: w}
	}
	a, b := writer(), writer()
	plain := []byte("a chunk")
	c := store.NewChunk(chunker.Digest(0).Sum(plain), 0, plain, nil)
	defer c.Release()
	put := func(e *exchangedWriter) {
		t.Helper()
		if err := e.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	e := newExchangedWriter(a)
	put(e)
	e.put(b)
	if err := e.Sync(t.Context()); err != nil || a.puts != 1 || a.syncs != 1 || b.syncs != 0 {
		t.Errorf("%v, %+v, %+v", err, a, b)
	}
	put(e)
	put(e)
	if err := e.Sync(t.Context()); err != nil || a.puts != 1 || a.syncs != 1 || b.puts != 2 || b.syncs != 1 {
		t.Errorf("%v, %+v, %+v", err, a, b)
	}
	if has, err := e.Has(t.Context(), store.Want{ID: c.ID()}); !has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
}
