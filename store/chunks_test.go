package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

// forms are all the ways in which chunks can lie in a store.
var forms = []store.Form{
	{},
	{Level: 1},
	{Level: 19, Suffix: ".zst"},
	{Compression: store.XZ},
	{Compression: store.Gzip, Level: 9},
	{Compression: store.None},
	{Compression: store.None, Either: true},
	{Either: true},
	{Key: key(store.XChaCha20Poly1305, secret)},
	{Compression: store.None, Either: true, Key: key(store.AES256GCM, secret)},
}

// wrapped are the forms to test a wrapper with, to which they are alike.
var wrapped = []store.Form{{}, {Compression: store.None}}

func TestChunks(t *testing.T) {
	for _, f := range forms {
		t.Run(fmt.Sprintf("%v:%d%s,either=%v,key=%v", f.Compression, f.Level, f.Suffix, f.Either, f.Key), func(t *testing.T) {
			storetest.RunStore(t, f, func(t *testing.T, objects map[string][]byte) store.Store {
				return store.Chunks(storetest.NewMemory(objects), f)
			})
			storetest.Run(t, func(t *testing.T) store.Writer {
				w, err := store.Writable(storetest.NewMemory(nil), f)
				if err != nil {
					t.Fatal(err)
				}
				return w
			})
		})
	}
}

// countingLists counts how often it is listed.
type countingLists struct {
	*storetest.Memory
	lists int
}

func (c *countingLists) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	c.lists++
	return c.Memory.List(ctx, prefix)
}

// only hides what a backend can do beyond Open.
type only struct{ store.Blobs }

func TestChunksOfPlainBackend(t *testing.T) {
	storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
		return store.Chunks(only{storetest.NewMemory(objects)}, store.Form{})
	})
}

func TestWritableRefuses(t *testing.T) {
	if _, err := store.Writable(only{storetest.NewMemory(nil)}, store.Form{}); !errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	for _, f := range []store.Form{{Level: 23}, {Level: -1}, {Compression: store.XZ, Level: 10}, {Compression: store.None, Level: 1}} {
		if _, err := store.Writable(storetest.NewMemory(nil), f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

func TestFormName(t *testing.T) {
	id, err := chunker.ParseID("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		form store.Form
		want string
	}{
		{store.Form{}, "0123/" + id.String() + ".cacnk"},
		{store.Form{Compression: store.XZ}, "0123/" + id.String() + ".cacnk"},
		{store.Form{Suffix: ".x"}, "0123/" + id.String() + ".x"},
		{store.Form{Compression: store.None, Suffix: ".x"}, "0123/" + id.String()},
		{store.Form{Key: key(store.AES256GCM, secret)}, "0123/" + id.String() + ".cacnk.aes-256-gcm-630dcd29"},
		{store.Form{Compression: store.None, Key: key(store.XChaCha20Poly1305, secret)}, "0123/" + id.String() + ".xchacha20-poly1305-630dcd29"},
	}
	for _, tt := range tests {
		if got := tt.form.Name(id); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.form, got, tt.want)
		}
	}
}

// FuzzParseName: what is taken for a chunk's name is the one that its form gives it.
func FuzzParseName(f *testing.F) {
	id := storetest.Want([]byte("x")).ID
	k := key(store.AES256GCM, secret)
	for _, form := range []store.Form{{}, {Compression: store.None}, {Key: k}, {Compression: store.None, Key: k}} {
		f.Add(form.Name(id))
		if n, ok := store.ParseName(form.Name(id)); !ok || n.ID != id || n.Packed != (form.Compression != store.None) || (n.Key == k.String()) != (form.Key != nil) {
			f.Errorf("%s: %+v, %v", form.Name(id), n, ok)
		}
		for _, other := range []string{form.Name(id) + ".", "x" + form.Name(id), "a/" + form.Name(id), strings.ToUpper(form.Name(id)), form.Name(id)[5:]} {
			f.Add(other)
			if _, ok := store.ParseName(other); ok {
				f.Errorf("%s is taken for a chunk", other)
			}
		}
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := store.ParseName(name)
		if !ok {
			return
		}
		form := store.Form{}
		if !n.Packed {
			form.Compression = store.None
		}
		want := form.Name(n.ID)
		if n.Key != "" {
			want += "." + n.Key
		}
		if name != want {
			t.Errorf("%q is read as %q", name, want)
		}
	})
}

// Either form finds chunks of both, and a damaged one does not hide the other
// from Has.
func TestEither(t *testing.T) {
	plain := storetest.Plains()[2]
	for _, own := range []store.Form{{Either: true}, {Compression: store.None, Either: true}} {
		for _, other := range []store.Form{{}, {Compression: store.Gzip}, {Compression: store.None}} {
			objects := storetest.Objects(t, other, plain)
			s := store.Chunks(storetest.NewMemory(objects), own)
			c, err := s.Get(t.Context(), storetest.Want(plain))
			if err != nil {
				t.Fatalf("%v in %v: %v", other, own, err)
			}
			if err := c.Verify(); err != nil {
				t.Errorf("%v in %v: %v", other, own, err)
			}
			c.Release()
		}
	}
	id := storetest.Want(plain).ID
	objects := storetest.Objects(t, store.Form{}, plain)
	objects[store.Form{Compression: store.None}.Name(id)] = plain[:5]
	s := store.Chunks(storetest.NewMemory(objects), store.Form{Compression: store.None, Either: true})
	if ok, err := s.Has(t.Context(), storetest.Want(plain)); !ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
}

// hostile gives every object the same body and size.
type hostile struct {
	store.Blobs
	body io.Reader
	size int64
}

func (h hostile) Open(context.Context, string, store.Range) (io.ReadCloser, store.Info, error) {
	return io.NopCloser(h.body), store.Info{Size: h.size}, nil
}

// endless counts how much of it was read.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	e.n += len(p)
	return len(p), nil
}

func TestGetReadsLittleOfHostileServer(t *testing.T) {
	for _, f := range []store.Form{{}, {Compression: store.None}} {
		for _, size := range []int64{-1, 1000, 1 << 50} {
			body := &endless{}
			s := store.Chunks(hostile{storetest.NewMemory(nil), body, size}, f)
			_, err := s.Get(t.Context(), store.Want{Size: 10_000})
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%v, announced as %d: got %v, want ErrCorrupt", f.Compression, size, err)
			}
			if body.n > 20_000 {
				t.Errorf("%v, announced as %d: read %d bytes", f.Compression, size, body.n)
			}
		}
	}
}

func TestGetBrokenBody(t *testing.T) {
	broken := errors.New("connection reset")
	tests := []struct {
		name string
		body io.Reader
		want error
	}{
		{"ends early", strings.NewReader("short"), io.ErrUnexpectedEOF},
		{"fails", io.MultiReader(strings.NewReader("short"), readerFunc(func([]byte) (int, error) { return 0, broken })), broken},
	}
	for _, tt := range tests {
		s := store.Chunks(hostile{storetest.NewMemory(nil), tt.body, 100}, store.Form{})
		_, err := s.Get(t.Context(), store.Want{Size: 1000})
		if !errors.Is(err, tt.want) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), " in memory/0000/") {
			t.Errorf("%s: error %q does not say where", tt.name, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
