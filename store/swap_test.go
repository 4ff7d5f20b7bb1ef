package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"caravel/store"
	"caravel/store/storetest"
)

func TestSwapIsAStore(t *testing.T) {
	storetest.RunStore(t, store.Form{}, func(_ *testing.T, objects map[string][]byte) store.Store {
		return store.NewSwap(store.Chunks(storetest.NewMemory(objects), store.Form{}))
	})
}

// hanging answers when it is told to give up.
type hanging struct{}

func (hanging) Get(ctx context.Context, _ store.Want) (*store.Chunk, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (hanging) Has(ctx context.Context, _ store.Want) (bool, error) {
	<-ctx.Done()
	return false, context.Cause(ctx)
}

// Sixteen readers see nothing of stores that come and go, some of which hang.
func TestSwapUnderReaders(t *testing.T) {
	plain := []byte("a chunk")
	good := store.Chunks(storetest.NewMemory(storetest.Objects(t, store.Form{}, plain)), store.Form{})
	w := store.NewSwap(good)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 16 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if i%4 == 0 {
					if ok, err := w.Has(t.Context(), storetest.Want(plain)); err != nil || !ok {
						t.Error(ok, err)
					}
					continue
				}
				c, err := w.Get(t.Context(), storetest.Want(plain))
				if err != nil {
					t.Error(err)
					return
				}
				c.Release()
			}
		})
	}
	for range 200 {
		w.Put(hanging{})
		w.Put(good)
	}
	close(done)
	readers.Wait()
}

func TestSwapGivesUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := store.NewSwap(hanging{})
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			synctest.Wait()
			cancel(gone)
		}()
		if _, err := w.Get(ctx, store.Want{}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}
