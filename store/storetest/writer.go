package storetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"caravel/chunker"
	"caravel/store"
)

// Run tests a store that takes chunks. open returns an empty one.
func Run(t *testing.T, open func(t *testing.T) store.Writer) {
	t.Run("put", func(t *testing.T) { putAll(t, open(t)) })
	t.Run("put compressed", func(t *testing.T) { putCompressed(t, open(t)) })
	t.Run("put forged", func(t *testing.T) { putForged(t, open(t)) })
	t.Run("put cancelled", func(t *testing.T) { putCancelled(t, open(t)) })
	t.Run("put many at once", func(t *testing.T) { putManyAtOnce(t, open(t)) })
}

func putAll(t *testing.T, w store.Writer) {
	if err := w.Sync(t.Context()); err != nil {
		t.Errorf("Sync of nothing: %v", err)
	}
	for _, plain := range Plains() {
		if ok, err := w.Has(t.Context(), Want(plain)); ok || err != nil {
			t.Errorf("Has before Put: %v, %v", ok, err)
		}
		// A pooled buffer that is used for something else after Put.
		buf := bytes.Clone(plain)
		put(t, w, buf, chunker.SHA512_256)
		clear(buf)
		check(t, w, Want(plain), plain)
	}
	for _, plain := range Plains() {
		put(t, w, plain, chunker.SHA512_256) // twice
		check(t, w, Want(plain), plain)
	}
	if err := w.Sync(t.Context()); err != nil {
		t.Errorf("Sync: %v", err)
	}
}

// putCompressed puts chunks that another store has packed.
func putCompressed(t *testing.T, w store.Writer) {
	for i, c := range []store.Compression{store.Zstd, store.XZ, store.Gzip, store.None} {
		f, plain := store.Form{Compression: c}, Plains()[i]
		src := store.Chunks(NewMemory(Objects(t, f, plain)), f)
		chunk, err := src.Get(t.Context(), Want(plain))
		if err != nil {
			t.Fatal(err)
		}
		err = w.Put(t.Context(), chunk)
		chunk.Release()
		if err != nil {
			t.Errorf("%v: %v", c, err)
		}
		check(t, w, Want(plain), plain)
	}
}

func putForged(t *testing.T, w store.Writer) {
	want := Want([]byte("right"))
	c := store.NewStored(want, "here", store.None, []byte("wrong"), nil)
	defer c.Release()
	if err := w.Put(t.Context(), c); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if ok, err := w.Has(t.Context(), want); ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
}

func putCancelled(t *testing.T, w store.Writer) {
	plain := Plains()[1]
	c := store.NewChunk(Want(plain).ID, chunker.SHA512_256, plain, nil)
	defer c.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Put(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if ok, err := w.Has(t.Context(), Want(plain)); ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	if err := w.Put(t.Context(), c); err != nil {
		t.Error(err)
	}
	check(t, w, Want(plain), plain)
}

func putManyAtOnce(t *testing.T, w store.Writer) {
	plains := Plains()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range plains {
				plain := plains[(i+j)%len(plains)]
				c := store.NewChunk(Want(plain).ID, chunker.SHA512_256, plain, nil)
				if err := w.Put(t.Context(), c); err != nil {
					t.Error(err)
				}
				c.Release()
				check(t, w, Want(plain), plain)
			}
		})
	}
	wg.Wait()
}
