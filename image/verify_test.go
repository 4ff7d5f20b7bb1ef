package image_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/image"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/storetest"
)

// mixed are chunks in every form that may lie in one store, and their names.
func mixed(t *testing.T, key *store.Key) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for i, f := range []store.Form{{}, {Compression: store.None}, {Compression: store.XZ}, {Key: key}, {Compression: store.None, Key: key}} {
		maps.Copy(all, storetest.Objects(t, f, storetest.Plains()[i]))
	}
	return all
}

func testKey(t *testing.T, digit string) *store.Key {
	t.Helper()
	k, err := store.ParseKey(store.XChaCha20Poly1305, strings.Repeat(digit, 64))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// verify verifies what b holds, and returns the findings in words.
func verify(t *testing.T, b store.Blobs, opt image.VerifyOptions) (image.Verified, []string) {
	t.Helper()
	var found []string
	opt.Found = func(f image.Finding) {
		text := f.Kind.String()
		if f.Repaired {
			text += " repaired"
		}
		if f.Aside {
			text += " aside"
		}
		if bad := f.Kind == image.BadChunk; bad != errors.Is(f.Err, store.ErrCorrupt) {
			t.Errorf("%s: %v", f.Name, f.Err)
		}
		found = append(found, text)
	}
	got, err := image.Verify(t.Context(), b, opt)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return got, found
}

func TestVerify(t *testing.T) {
	key := testKey(t, "a")
	good := mixed(t, key)
	name := store.Form{}.Name(storetest.Want(storetest.Plains()[0]).ID)
	sealed := store.Form{Key: key}.Name(storetest.Want(storetest.Plains()[3]).ID)
	for what, tt := range map[string]struct {
		key   *store.Key
		spoil func(m map[string][]byte)
		found []string
		good  int64
		bad   int64
	}{
		"all is well": {key, func(map[string][]byte) {}, nil, 5, 0},
		"no key":      {nil, func(map[string][]byte) {}, []string{"other-key", "other-key"}, 3, 0},
		"another key": {testKey(t, "b"), func(map[string][]byte) {}, []string{"other-key", "other-key"}, 3, 0},
		"empty":       {key, func(m map[string][]byte) { m[name] = nil }, []string{"bad"}, 4, 1},
		"another's bytes": {key, func(m map[string][]byte) {
			m[name] = storetest.Objects(t, store.Form{}, []byte("other"))[objectOf([]byte("other"))]
		}, []string{"bad"}, 4, 1},
		"a bit of an encrypted one": {key, func(m map[string][]byte) {
			m[sealed] = bytes.Clone(m[sealed])
			m[sealed][100] ^= 1
		}, []string{"bad"}, 4, 1},
		"foreign": {key, func(m map[string][]byte) {
			m["notes.txt"], m["0000/"+name[5:]], m[name+".x"], m["deep/er/"+name] = nil, nil, nil, nil
			m[name+".damaged"], m["lost.damaged"] = nil, nil
		}, []string{"foreign", "foreign", "foreign", "foreign", "foreign", "put-aside"}, 5, 0},
	} {
		t.Run(what, func(t *testing.T) {
			m := maps.Clone(good)
			tt.spoil(m)
			got, found := verify(t, storetest.NewMemory(m), image.VerifyOptions{Key: tt.key})
			if !slices.Equal(found, tt.found) || got.Chunks != tt.good || got.Bad() != tt.bad {
				t.Errorf("%+v, found %q; want %d good, %d bad, %q", got, found, tt.good, tt.bad, tt.found)
			}
		})
	}
}

func objectOf(plain []byte) string { return store.Form{}.Name(storetest.Want(plain).ID) }

// TestVerifyDigests: a store's chunks may go by either digest.
func TestVerifyDigests(t *testing.T) {
	m := storetest.NewMemory(nil)
	w, err := store.Writable(m, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	for i, plain := range storetest.Plains() {
		d := []chunker.Digest{chunker.SHA256, chunker.SHA512_256}[i%2]
		c := store.NewChunk(d.Sum(plain), d, plain, nil)
		if err := w.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	if got, found := verify(t, m, image.VerifyOptions{}); got.Chunks != 6 || found != nil {
		t.Errorf("%+v, found %q", got, found)
	}
	if got, _ := verify(t, m, image.VerifyOptions{Digests: []chunker.Digest{chunker.SHA256}}); got.Chunks != 3 || got.Bad() != 3 {
		t.Errorf("%+v, want three bad ones", got)
	}
}

// TestVerifyRepairs: a bad chunk comes from another store, or is put aside.
func TestVerifyRepairs(t *testing.T) {
	key := testKey(t, "a")
	good := mixed(t, key)
	spoilt := map[string][]byte{}
	for name := range good {
		spoilt[name] = []byte("spoilt")
	}
	b := storetest.NewMemory(spoilt)
	others := storetest.Objects(t, store.Form{}, storetest.Plains()[:4]...)
	opt := image.VerifyOptions{Key: key, Repair: true, From: store.Chunks(storetest.NewMemory(others), store.Form{})}
	got, found := verify(t, b, opt)
	if want := []string{"bad aside", "bad repaired", "bad repaired", "bad repaired", "bad repaired"}; !slices.Equal(found, want) || got.Chunks != 4 || got.Bad() != 1 {
		t.Errorf("%+v, found %q", got, found)
	}
	got, found = verify(t, b, image.VerifyOptions{Key: key})
	if !slices.Equal(found, []string{"put-aside"}) || got.Chunks != 4 || got.Bad() != 0 {
		t.Errorf("afterwards: %+v, found %q", got, found)
	}
}

// TestVerifyUnfinished: what a killed writer left is reported, and left alone.
func TestVerifyUnfinished(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".tmp-cacnk.123", "abcd/x.0123456789abcdef.tmp"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	got, found := verify(t, local.New(dir, local.Options{}), image.VerifyOptions{})
	if !slices.Equal(found, []string{"unfinished", "unfinished"}) || got.Bad() != 0 {
		t.Errorf("%+v, found %q", got, found)
	}
}

func TestVerifyRefuses(t *testing.T) {
	if _, err := image.Verify(t.Context(), plainBlobs{storetest.NewMemory(nil)}, image.VerifyOptions{}); err == nil {
		t.Error("a backend that does not list was verified")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := image.Verify(ctx, storetest.NewMemory(mixed(t, nil)), image.VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// plainBlobs hides what a backend can do beyond Open.
type plainBlobs struct{ store.Blobs }
