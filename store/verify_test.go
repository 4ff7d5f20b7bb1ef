package store_test

import (
	"errors"
	"testing"

	"caravel/store"
	"caravel/store/storetest"
)

func TestVerify(t *testing.T) {
	for _, f := range wrapped {
		storetest.RunStore(t, f, func(t *testing.T, objects map[string][]byte) store.Store {
			return store.Verify(store.Chunks(storetest.NewMemory(objects), f))
		})
	}
}

func TestVerifyGivesNothingUnverified(t *testing.T) {
	plain := storetest.Plains()[1]
	f := store.Form{Compression: store.None}
	name := f.Name(storetest.Want(plain).ID)
	s := store.Verify(store.Chunks(storetest.NewMemory(map[string][]byte{name: make([]byte, len(plain))}), f))
	_, err := s.Get(t.Context(), storetest.Want(plain))
	var corrupt *store.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Got != storetest.Want(make([]byte, len(plain))).ID || corrupt.Where != "memory/"+name {
		t.Errorf("got %+v", err)
	}
}

func TestVerifyIsNoWriter(t *testing.T) {
	w, err := store.Writable(storetest.NewMemory(nil), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := store.Verify(w).(store.Writer); ok {
		t.Error("a verified store takes chunks: Put would go round the verification")
	}
}
