package store_test

import (
	"context"
	"sync"
	"testing"

	"caravel/store"
	"caravel/store/storetest"
)

// A fake is a store that says what it is told to, and counts who asks.
type fake struct {
	store.Store

	mu   sync.Mutex // guards err and gets
	err  error      // nil: what Store says
	gets int
}

// holding returns a store of these chunks.
func holding(t *testing.T, plains ...[]byte) *fake {
	return &fake{Store: store.Chunks(storetest.NewMemory(storetest.Objects(t, store.Form{}, plains...)), store.Form{})}
}

// forging returns a store that has nonsense for the chunk of plain.
func forging(plain []byte) *fake {
	objects := map[string][]byte{store.Form{}.Name(storetest.Want(plain).ID): []byte("no chunk at all")}
	return &fake{Store: store.Chunks(storetest.NewMemory(objects), store.Form{})}
}

func (f *fake) say(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets
}

func (f *fake) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	f.mu.Lock()
	f.gets++
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, want)
}

func (f *fake) Has(ctx context.Context, want store.Want) (bool, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return false, err
	}
	return f.Store.Has(ctx, want)
}

// gives checks that a store has the chunk of plain, verified.
func gives(t *testing.T, s store.Store, plain []byte) {
	t.Helper()
	c, err := s.Get(t.Context(), storetest.Want(plain))
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := c.Plain(); err != nil || string(got) != string(plain) || !c.Verified() {
		t.Errorf("got %d bytes, want %d; verified %v; error %v", len(got), len(plain), c.Verified(), err)
	}
	c.Release()
	if ok, err := s.Has(t.Context(), storetest.Want(plain)); !ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
}
