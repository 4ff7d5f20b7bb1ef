package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"caravel/chunker"
	"caravel/store"
)

// chunks has each kind of a bad chunk on the server: who wants it is told which it is,
// and where; a good one in its place is read by the same store.
func (f *faults) chunks(t *testing.T) {
	s := f.open(t, Way{})
	form := store.Form{}
	forged := func(plain []byte) []byte {
		other := bytes.Clone(plain)
		other[len(other)/2] ^= 1
		return other
	}
	stored := func(form store.Form, plain []byte) []byte {
		return Objects(t, form, plain)[form.Name(Want(plain).ID)]
	}
	tests := []struct {
		name  string
		spoil func(plain []byte) []byte // what is there; nil: nothing
	}{
		{"missing", nil},
		{"empty", func([]byte) []byte { return []byte{} }},
		{"truncated", func(plain []byte) []byte { good := stored(form, plain); return good[:len(good)*2/3] }},
		{"a byte too short", func(plain []byte) []byte { good := stored(form, plain); return good[:len(good)-1] }},
		{"forged", func(plain []byte) []byte { return stored(form, forged(plain)) }},
		{"spoilt", func(plain []byte) []byte { return forged(stored(form, plain)) }},
		{"another chunk", func(plain []byte) []byte { return stored(form, noise(77, len(plain))) }},
		{"oversize", func(plain []byte) []byte { return append(stored(form, plain), make([]byte, 3<<20)...) }},
		{"bomb", func([]byte) []byte { return stored(form, make([]byte, 8<<20)) }},
		{"not compressed", func(plain []byte) []byte { return plain }},
		{"nonsense", func(plain []byte) []byte { return bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd}, len(plain)/4) }},
		{"half compressed", func(plain []byte) []byte { return append(stored(form, plain[:1000]), plain[1000:]...) }},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plain := noise(uint64(i), 60_000)
			want, kind := Want(plain), store.ErrMissing
			if tt.spoil != nil {
				kind = store.ErrCorrupt
				f.Plant(t, form.Name(want.ID), tt.spoil(plain))
			}
			for _, want := range []store.Want{want, {ID: want.ID}} {
				c, err := fetch(t.Context(), s, want)
				if err == nil {
					c.Release()
				}
				if tt.name == "empty" && errors.Is(err, store.ErrMissing) {
					continue // casync's protocol has no chunk of no bytes
				}
				wantLine(t, "Get", err, want.ID.String(), s.Where)
				wantKind(t, "Get", err, kind)
			}
			if tt.spoil == nil {
				if ok, err := s.Has(t.Context(), want); ok || err != nil {
					t.Errorf("Has: %v, %v", ok, err)
				}
			}
			f.replace(t, s, plain, tt.spoil != nil)
		})
	}
}

// replace puts a good chunk in the place of a bad one: by the store, if that does so,
// else behind its back.
func (f *faults) replace(t *testing.T, s Opened, plain []byte, damaged bool) {
	t.Helper()
	err := write(t.Context(), s, plain)
	switch {
	case damaged && f.Damaged != "" && err != nil:
		wantLine(t, "Put", err, s.Where, f.Damaged)
		wantKind(t, "Put", err, store.ErrRefused)
		f.plant(t, plain)
	case err != nil:
		t.Errorf("Put: %v", err)
	}
	works(t, s, plain, nil)
}

// encryption reads what is encrypted with another key than the one that is given: that
// is said, and not merely that something is missing.
func (f *faults) encryption(t *testing.T) {
	key := func(secret string) *store.Key {
		k, err := store.ParseKey(store.XChaCha20Poly1305, strings.Repeat(secret, 32))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	right, wrong, plain := key("a1"), key("b2"), noise(200, 50_000)
	form := store.Form{Key: right}
	for name, content := range Objects(t, form, plain) {
		f.Plant(t, name, content)
	}
	if err := get(t.Context(), t, f.open(t, Way{Key: right}), plain); err != nil {
		t.Errorf("with the key: %v", err)
	}
	s := f.open(t, Way{Key: wrong})
	err := get(t.Context(), t, s, plain)
	wantLine(t, "with another key", err, s.Where, Want(plain).ID.String(), "key", wrong.String())
	if err != nil && strings.Contains(err.Error(), "b2b2") {
		t.Errorf("the key is shown: %v", err)
	}
	// Whoever gives the right name to what another key has encrypted deceives nobody.
	f.Plant(t, form.Name(Want(plain).ID), Objects(t, store.Form{Key: wrong}, plain)[store.Form{Key: wrong}.Name(Want(plain).ID)])
	err = get(t.Context(), t, f.open(t, Way{Key: right}), plain)
	wantLine(t, "under another key's name", err, Want(plain).ID.String())
	wantKind(t, "under another key's name", err, store.ErrCorrupt)
}

// writers put the same chunks at the same time, several in each of several stores.
func (f *faults) writers(t *testing.T) {
	var plains [][]byte
	for i := range 6 {
		plains = append(plains, noise(300+uint64(i), 20_000*(i+1)))
	}
	var wg sync.WaitGroup
	for range 3 {
		s := f.open(t, Way{})
		var each sync.WaitGroup
		for j := range 3 {
			each.Go(func() {
				for i := range plains {
					plain := plains[(i+j)%len(plains)]
					c := store.NewChunk(Want(plain).ID, chunker.SHA512_256, plain, nil)
					if err := s.Put(t.Context(), c); err != nil {
						t.Errorf("Put: %v", err)
					}
					c.Release()
				}
			})
		}
		wg.Go(func() {
			each.Wait()
			if err := s.Sync(t.Context()); err != nil {
				t.Errorf("Sync: %v", err)
			}
			for _, plain := range plains {
				if err := get(t.Context(), t, s, plain); err != nil {
					t.Errorf("Get: %v", err)
				}
			}
		})
	}
	wg.Wait()
	f.wantRight(t)
	here := f.Objects(t)
	for _, plain := range plains {
		if name := (store.Form{}).Name(Want(plain).ID); here[name] == nil {
			t.Errorf("%s is not there", name)
		}
	}
}

// thousand reads a thousand chunks at once.
func (f *faults) thousand(t *testing.T) {
	var plains [][]byte
	for i := range 8 {
		plains = append(plains, noise(400+uint64(i), 1000<<i))
		f.plant(t, plains[i])
	}
	s := f.open(t, Way{})
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if err := get(t.Context(), t, s, plains[i%len(plains)]); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// String names a break in the names of tests.
func (b Break) String() string {
	way := "from"
	if b.Up {
		way = "to"
	}
	return fmt.Sprintf("%s after %d bytes %s the server", b.Kind, b.After, way)
}
