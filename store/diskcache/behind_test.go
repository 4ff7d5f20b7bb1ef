//go:build unix

package diskcache

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"caravel/chunker"
	"caravel/store"
)

// When too much waits for the disk, Keep leaves a chunk and Put waits.
func TestTooMuchWaits(t *testing.T) {
	c := openSmall(t, 4<<20)
	plain := noise(1, 5000)
	id := chunker.SHA512_256.Sum(plain)
	chunk := store.NewChunk(id, chunker.SHA512_256, plain, nil)
	defer chunk.Release()
	if !c.waits.TryAcquire(maxWaiting) {
		t.Fatal("something waits")
	}
	if err := c.Keep(chunk); err != nil || c.Stats().Failed != 1 {
		t.Errorf("Keep: %v, %+v", err, c.Stats())
	}
	ctx, cancel := context.WithCancel(t.Context())
	put, sync := make(chan error), make(chan error)
	go func() { put <- c.Put(ctx, chunk) }()
	go func() { sync <- c.Sync(ctx) }()
	cancel()
	if err := errors.Join(<-put, <-sync); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if ok, err := c.Has(t.Context(), store.Want{ID: id}); ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	go func() { put <- c.Put(t.Context(), chunk) }()
	c.waits.Release(maxWaiting)
	if err := errors.Join(<-put, c.Sync(t.Context())); err != nil || c.Stats().Kept != 1 {
		t.Errorf("Put: %v, %+v", err, c.Stats())
	}
}

// A chunk of which only the plain bytes are left takes their room.
func TestTakes(t *testing.T) {
	plain := make([]byte, 1<<20)
	made := store.NewChunk(chunker.SHA512_256.Sum(plain), chunker.SHA512_256, plain, nil)
	var packed []byte
	err := made.Stored(store.Form{}, func(b []byte) error {
		packed = bytes.Clone(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Want{ID: made.ID(), Size: len(plain), Digest: chunker.SHA512_256}
	chunk := store.NewStored(want, "", store.Zstd, packed, nil)
	defer chunk.Release()
	if got := takes(chunk); got != headSize+int64(len(packed)) {
		t.Errorf("packed: %d bytes", got)
	}
	if err := chunk.Verify(); err != nil {
		t.Fatal(err)
	}
	if chunk.Compact(); takes(chunk) != headSize+1<<20 {
		t.Errorf("plain: %d bytes", takes(chunk))
	}
}

// What waits for the disk is found, and waits once.
func TestWaitingIsFound(t *testing.T) {
	c := openSmall(t, 4<<20)
	c.writing = true // by us, later
	plain := noise(1, 5000)
	want := store.Want{ID: chunker.SHA512_256.Sum(plain), Size: len(plain)}
	for range 3 {
		buf := bytes.Clone(plain)
		chunk := store.NewChunk(want.ID, want.Digest, buf, func() { clear(buf) })
		if err := c.Keep(chunk); err != nil {
			t.Fatal(err)
		}
		chunk.Release()
		got, err := c.Get(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := got.Plain(); err != nil || !bytes.Equal(b, plain) || got.Verify() != nil {
			t.Errorf("%d other bytes, error %v", len(b), err)
		}
		got.Release()
	}
	if len(c.queue) != 1 || len(c.pending) != 1 || c.Stats().Kept != 0 {
		t.Errorf("%d in the queue, %d wait", len(c.queue), len(c.pending))
	}
	c.writeQueue()
	if err := c.Sync(t.Context()); err != nil || c.Stats().Kept != 1 || len(c.pending) != 0 {
		t.Errorf("%+v, error %v", c.Stats(), err)
	}
}
