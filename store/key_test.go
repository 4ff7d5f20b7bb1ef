package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

// secret is the one of the vectors that desync made; another is not.
const (
	secret  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	another = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

func key(c store.Cipher, secret string) *store.Key {
	k, err := store.ParseKey(c, secret)
	if err != nil {
		panic(err)
	}
	return k
}

// desyncForms are the forms of the chunks that desync made.
func desyncForms() []store.Form {
	var all []store.Form
	for _, c := range []store.Cipher{store.XChaCha20Poly1305, store.AES256GCM} {
		for _, packed := range []store.Compression{store.Zstd, store.None} {
			all = append(all, store.Form{Compression: packed, Key: key(c, secret)})
		}
	}
	return all
}

const desyncDir = "testdata/encrypted"

func desyncPlain() []byte {
	return bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 8)
}

// TestDesyncsChunks reads what desync's make wrote.
func TestDesyncsChunks(t *testing.T) {
	want := storetest.Want(desyncPlain())
	for _, f := range desyncForms() {
		object, err := os.ReadFile(filepath.Join(desyncDir, f.Name(want.ID)))
		if err != nil {
			t.Fatal(err)
		}
		s := store.Chunks(storetest.NewMemory(map[string][]byte{f.Name(want.ID): object}), f)
		gives(t, store.Verify(s), desyncPlain())
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for _, bad := range []string{"", secret[2:], secret + "00", "zz" + secret[2:], secret[1:]} {
		_, err := store.ParseKey(store.AES256GCM, bad)
		if err == nil || strings.Contains(err.Error(), secret[10:20]) {
			t.Errorf("%d digits: got %v, want an error that does not show them", len(bad), err)
		}
	}
	if k, err := store.ParseKey(store.AES256GCM, " "+secret+"\r\n"); err != nil || !k.Same(key(store.AES256GCM, secret)) {
		t.Errorf("with white space: %v, %v", k, err)
	}
	if _, err := store.ParseCipher("rot13"); err == nil {
		t.Error("rot13 was accepted")
	}
}

// TestKeyIsNotShown: whatever a key is printed with shows its name only.
func TestKeyIsNotShown(t *testing.T) {
	k := key(store.XChaCha20Poly1305, secret)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "form", store.Form{Key: k})
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %q", k, k, k, k), fmt.Sprintf("%+v %#v", store.Form{Key: k}, store.Form{Key: k}), log.String()} {
		if strings.Contains(text, "0001020304") || strings.Contains(text, "[0 1 2 3") || strings.Contains(text, "99 13 205 41") {
			t.Errorf("shown: %s", text)
		}
	}
	if k.String() != "xchacha20-poly1305-630dcd29" {
		t.Errorf("called %v", k)
	}
}

func TestKeySame(t *testing.T) {
	a, none := key(store.AES256GCM, secret), (*store.Key)(nil)
	tests := []struct {
		a, b *store.Key
		want bool
	}{
		{a, key(store.AES256GCM, secret), true},
		{a, key(store.XChaCha20Poly1305, secret), false},
		{a, key(store.AES256GCM, another), false},
		{a, none, false},
		{none, a, false},
		{none, none, true},
	}
	for _, tt := range tests {
		if got := tt.a.Same(tt.b); got != tt.want {
			t.Errorf("%v, %v: %v", tt.a, tt.b, got)
		}
	}
}

// TestWrongKey: the error says what is there instead, and is still a miss.
func TestWrongKey(t *testing.T) {
	plain := desyncPlain()
	want := storetest.Want(plain)
	x, gcm, other := key(store.XChaCha20Poly1305, secret), key(store.AES256GCM, secret), key(store.XChaCha20Poly1305, another)
	tests := []struct {
		name         string
		there, asked store.Form
		listed, not  string // in the error, where the backend lists and where not
	}{
		{"another key", store.Form{Key: x}, store.Form{Key: other}, "wrong key: there it is encrypted with xchacha20-poly1305-630dcd29, not " + other.String(), "another key than " + other.String()},
		{"another cipher", store.Form{Key: x}, store.Form{Key: gcm}, "encrypted with xchacha20-poly1305-630dcd29, not aes-256-gcm-630dcd29", "another key than"},
		{"no key", store.Form{Key: x}, store.Form{}, "there it is encrypted, with the key xchacha20-poly1305-630dcd29", ""},
		{"not encrypted", store.Form{}, store.Form{Key: x}, "there it is not encrypted", "there it is not encrypted"},
		{"not compressed", store.Form{Compression: store.None, Key: x}, store.Form{Compression: store.None, Key: other}, "wrong key", "another key than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := storetest.NewMemory(storetest.Objects(t, tt.there, plain))
			for text, b := range map[string]store.Blobs{tt.listed: m, tt.not: only{m}} {
				for range 10 { // not only the first time
					_, err := store.Chunks(b, tt.asked).Get(t.Context(), want)
					if !errors.Is(err, store.ErrMissing) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
						t.Fatalf("got %v, want ErrMissing with %q", err, text)
					}
				}
			}
		})
	}
}

// TestSearchesEnd: a store from which chunks are just missing is not searched for
// other keys for ever.
func TestSearchesEnd(t *testing.T) {
	m := &countingLists{Memory: storetest.NewMemory(nil)}
	s := store.Chunks(m, store.Form{Key: key(store.AES256GCM, secret)})
	for i := range 50 {
		if _, err := s.Get(t.Context(), storetest.Want([]byte{byte(i)})); !errors.Is(err, store.ErrMissing) {
			t.Fatal(err)
		}
	}
	if m.lists == 0 || m.lists > 10 {
		t.Errorf("%d searches", m.lists)
	}
}

// TestSealedAsItCame: what came encrypted goes to a store of the same form as it
// came, and elsewhere in that store's.
func TestSealedAsItCame(t *testing.T) {
	plain := storetest.Plains()[2]
	want := storetest.Want(plain)
	for _, from := range desyncForms() {
		came := storetest.Objects(t, from, plain)[from.Name(want.ID)]
		for _, to := range append(desyncForms(), store.Form{}, store.Form{Compression: store.None}, store.Form{Key: key(store.AES256GCM, another)}) {
			freed := 0
			c := store.NewSealed(want, "there", from.Key, from.Compression, came, func() { freed++ })
			if !c.Key().Same(from.Key) || c.Came() != len(came) {
				t.Errorf("came as %d bytes, key %v", c.Came(), c.Key())
			}
			m := storetest.NewMemory(nil)
			w, err := store.Writable(m, to)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Put(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			same := to.Key.Same(from.Key) && to.Compression == from.Compression
			if put := m.Objects()[to.Name(want.ID)]; bytes.Equal(put, came) != same {
				t.Errorf("%v %v to %v %v: as it came: %v, want %v", from.Compression, from.Key, to.Compression, to.Key, !same, same)
			}
			gives(t, store.Verify(w), plain)
			wantSealed(t, c, plain)
			c.Compact()
			wantSealed(t, c, plain)
			c.Release()
			if freed != 1 {
				t.Errorf("freed %d times", freed)
			}
		}
	}
}

// wantSealed looks whether AsCame gives the chunk encrypted with its key,
// whatever has become of it meanwhile.
func wantSealed(t *testing.T, c *store.Chunk, plain []byte) {
	t.Helper()
	err := c.AsCame(func(b []byte, packed bool) error {
		as := store.None
		if packed {
			as = store.Zstd
		}
		again := store.NewSealed(storetest.Want(plain), "", c.Key(), as, bytes.Clone(b), nil)
		defer again.Release()
		return again.Verify()
	})
	if err != nil {
		t.Error(err)
	}
}

// FuzzSealed: whatever a store holds, reading it neither panics nor gives
// anything but the chunk.
func FuzzSealed(f *testing.F) {
	want := storetest.Want(desyncPlain())
	for i, form := range desyncForms() {
		object, err := os.ReadFile(filepath.Join(desyncDir, form.Name(want.ID)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object, byte(i))
		f.Add(object[:20], byte(i))
		f.Add([]byte{}, byte(i))
	}
	f.Fuzz(func(t *testing.T, object []byte, which byte) {
		form := desyncForms()[int(which)%4]
		c := store.NewSealed(want, "", form.Key, form.Compression, object, nil)
		defer c.Release()
		if err := c.Verify(); err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		plain, err := c.Plain()
		if err != nil || chunker.SHA512_256.Sum(plain) != want.ID {
			t.Fatalf("another chunk, error %v", err)
		}
	})
}

// TestNamedKey passes on what it cannot read, and does nothing else.
func TestNamedKey(t *testing.T) {
	known := key(0, strings.Repeat("07", 32))
	hidden, err := store.NamedKey(known.String())
	if err != nil || hidden.String() != known.String() || hidden.Same(known) {
		t.Fatalf("%v, %v", hidden, err)
	}
	for _, name := range []string{"", "none", "xchacha20-poly1305", "xchacha20-poly1305-", "xchacha20-poly1305-0707070", "xchacha20-poly1305-070707070", "xchacha20-poly1305-0707070G", "xchacha20-poly1305-ABCDEF01", "rot13-07070707", "-07070707"} {
		if k, err := store.NamedKey(name); err == nil {
			t.Errorf("%q is %v", name, k)
		}
	}
	plain := []byte("a chunk that nobody is to read")
	id := chunker.Digest(0).Sum(plain)
	c := store.NewChunk(id, 0, plain, nil)
	defer c.Release()
	if err := c.Stored(store.Form{Key: known}, func(b []byte) error {
		there := store.NewSealed(store.Want{ID: id}, "there", hidden, store.Zstd, b, nil)
		defer there.Release()
		if _, err := there.Plain(); err == nil {
			t.Error("it is read")
		}
		if err := there.Verify(); err == nil {
			t.Error("it is verified")
		}
		for _, f := range []store.Form{{}, {Key: known}, {Key: hidden, Compression: store.None}} {
			if err := there.Stored(f, func([]byte) error { return nil }); err == nil {
				t.Errorf("%+v: it is given", f)
			}
		}
		return there.Stored(store.Form{Key: hidden}, func(got []byte) error {
			if !bytes.Equal(got, b) {
				t.Error("other bytes are given")
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Stored(store.Form{Key: hidden}, func([]byte) error { return nil }); err == nil {
		t.Error("something is encrypted")
	}
}
