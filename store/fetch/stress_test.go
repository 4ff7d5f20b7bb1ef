package fetch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/fetch"
)

// Everything at once, in real time: many callers for few chunks, of all
// classes, some of whom leave, and an origin that fails, stalls and lies.
func TestStress(t *testing.T) {
	o := &origin{}
	o.get = func(ctx context.Context, w store.Want, _ int) (*store.Chunk, error) {
		switch n := rand.IntN(100); {
		case n < 5:
			return nil, errReset
		case n < 8:
			return nil, &store.BusyError{After: time.Millisecond, Err: errors.New("429")}
		case n < 9:
			return o.chunk(w, content(666, w.Size)), nil
		case n < 12:
			if err := sleep(ctx, time.Duration(rand.IntN(30))*time.Millisecond); err != nil {
				return nil, err
			}
		}
		return o.good(w)
	}
	q := fetch.New(o, fetch.Options{Held: 4 * kib})
	for i := range 500 {
		want(i, 0)
	}
	var wg sync.WaitGroup
	for range 10_000 {
		wg.Go(func() {
			ctx := t.Context()
			leaves := rand.IntN(4) == 0
			if leaves {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
				defer cancel()
			}
			w := want(rand.IntN(500), store.Class(rand.IntN(store.Classes)))
			c, err := q.Get(ctx, w)
			switch {
			case err == nil:
				defer c.Release()
				if plain, err := c.Plain(); err != nil || w.Digest.Sum(plain) != w.ID {
					t.Error("wrong bytes")
				}
			case leaves && ctx.Err() != nil, errors.Is(err, store.ErrCorrupt):
			case w.Class != store.Demand: // may have had enough
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := q.Stats()
	if s.InFlight < 0 || s.Queued != 0 || s.Held != 0 {
		t.Errorf("after all: %+v", s)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	checkLive(t, o)
}

// instant answers at once with chunks that are verified already.
type instant struct{ plain []byte }

func (o instant) Get(_ context.Context, w store.Want) (*store.Chunk, error) {
	return store.NewChunk(w.ID, w.Digest, o.plain, nil), nil
}

func (o instant) Has(context.Context, store.Want) (bool, error) { return true, nil }

// What the queue itself costs per chunk.
func BenchmarkGet(b *testing.B) {
	plain := content(1, small)
	w := want(1, store.Demand)
	bench := func(b *testing.B, get func(context.Context, store.Want) (*store.Chunk, error)) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := get(b.Context(), w)
			if err != nil || !c.Verified() {
				b.Fatal(err)
			}
			c.Release()
		}
	}
	b.Run("origin alone", func(b *testing.B) { bench(b, instant{plain}.Get) })
	b.Run("queue", func(b *testing.B) {
		q := fetch.New(instant{plain}, fetch.Options{})
		defer q.Close()
		bench(b, q.Get)
	})
}
