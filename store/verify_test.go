package store_test

import (
	"bytes"
	"errors"
	"testing"

	"caravel/chunker"
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

// TestVerifyAll tells the good chunks from the bad ones, whatever their digest.
func TestVerifyAll(t *testing.T) {
	var chunks []*store.Chunk
	var want []bool
	for i := range 100 {
		d := chunker.Digest(i % 3 % 2)
		plain := bytes.Repeat([]byte{byte(i)}, 1+37*i)
		id := d.Sum(plain)
		good := i%7 != 3
		if !good {
			plain[0]++
		}
		want = append(want, good)
		chunks = append(chunks, store.NewStored(store.Want{ID: id, Digest: d}, "a test", store.None, plain, nil))
	}
	chunks = append(chunks, store.NewStored(store.Want{}, "a test", store.Zstd, []byte("not packed"), nil))
	want = append(want, false)
	for range 2 { // what is verified stays so
		for i, err := range store.VerifyAll(chunks) {
			if (err == nil) != want[i] || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("chunk %d: %v", i, err)
			}
			if chunks[i].Verified() != want[i] {
				t.Errorf("chunk %d: verified: %v", i, !want[i])
			}
		}
	}
}
