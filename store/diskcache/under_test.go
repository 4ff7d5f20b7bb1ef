//go:build unix

package diskcache_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"
)

func key(t *testing.T, secret byte) *store.Key {
	t.Helper()
	k, err := store.ParseKey(store.XChaCha20Poly1305, string(bytes.Repeat([]byte{secret}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// came is a chunk as it comes from a store with a key.
func came(t *testing.T, k *store.Key, plain []byte) (*store.Chunk, []byte) {
	t.Helper()
	f := store.Form{Key: k}
	objects := storetest.Objects(t, f, plain)
	c, err := store.Chunks(storetest.NewMemory(objects), f).Get(t.Context(), storetest.Want(plain))
	if err != nil {
		t.Fatal(err)
	}
	return c, objects[f.Name(storetest.Want(plain).ID)]
}

// TestUnder: what came encrypted is kept encrypted, for who has the key.
func TestUnder(t *testing.T) {
	dir, plain := t.TempDir(), bytes.Repeat([]byte("a secret that packs well\n"), 2000)
	c := open(t, dir, diskcache.Options{})
	k := key(t, 'a')
	chunk, object := came(t, k, plain)
	defer chunk.Release()
	under := c.Under(k)
	if err := errors.Join(under.Put(t.Context(), chunk), under.Sync(t.Context()), get(t.Context(), under, plain)); err != nil {
		t.Fatal(err)
	}
	if ok, err := under.Has(t.Context(), storetest.Want(plain)); !ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	if got, err := os.ReadFile(file(dir, plain) + "." + k.String()); err != nil || !bytes.HasSuffix(got, object) {
		t.Errorf("%d bytes there, error %v", len(got), err)
	}
	for name, other := range map[string]store.Store{"no key": c, "another key": c.Under(key(t, 'b'))} {
		if err := get(t.Context(), other, plain); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", name, err)
		}
	}
}

// TestUnderKeepsNothingElse: a chunk that came in another form than the place is
// for is not kept, nor is an encrypted one after its encrypted bytes are gone kept
// in another form.
func TestUnderKeepsNothingElse(t *testing.T) {
	dir, plain := t.TempDir(), bytes.Repeat([]byte("a secret that packs well\n"), 2000)
	c := open(t, dir, diskcache.Options{})
	sealed, _ := came(t, key(t, 'a'), plain)
	defer sealed.Release()
	bare, _ := came(t, nil, plain)
	defer bare.Release()
	for _, put := range []error{
		c.Put(t.Context(), sealed), c.Keep(sealed),
		c.Under(key(t, 'b')).Put(t.Context(), sealed), c.Under(key(t, 'b')).Keep(sealed),
		c.Under(key(t, 'a')).Put(t.Context(), bare),
	} {
		if put != nil {
			t.Error(put)
		}
	}
	if err := c.Sync(t.Context()); err != nil || c.Stats().Kept != 0 {
		t.Errorf("%+v, error %v", c.Stats(), err)
	}
	sealed.Compact()
	under := c.Under(key(t, 'a'))
	if err := errors.Join(under.Keep(sealed), under.Sync(t.Context()), get(t.Context(), under, plain)); err != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("a secret")) {
			t.Errorf("%s: decrypted on the disk", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUnderSuite(t *testing.T) {
	storetest.RunStore(t, store.Form{Key: key(t, 'a')}, func(t *testing.T, objects map[string][]byte) store.Store {
		far := store.Chunks(storetest.NewMemory(objects), store.Form{Key: key(t, 'a')})
		return store.Cache(open(t, t.TempDir(), diskcache.Options{}).Under(key(t, 'a')), far, nil)
	})
}
