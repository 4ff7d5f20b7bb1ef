// Package storetest is the suite that every backend and every wrapper runs. A
// new backend's test is
//
//	func TestMine(t *testing.T) {
//		storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
//			return mine.New(serve(t, objects))
//		})
//	}
//
// and a new wrapper's the same with RunStore. What becomes of it where servers, disks and
// lines fail is RunFaults's, with the real server that a Bench is. Run it under the race detector
// too: it makes chunks that are used after their release conspicuous.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"caravel/chunker"
	"caravel/store"
)

// RunStore tests reading. open returns a store on top of the objects given,
// which are chunks in the form f, some of them spoilt.
func RunStore(t *testing.T, f store.Form, open func(t *testing.T, objects map[string][]byte) store.Store) {
	s := suite{f, open}
	t.Run("get", s.get)
	t.Run("missing", s.missing)
	t.Run("spoilt", s.spoilt)
	t.Run("other size", s.otherSize)
	t.Run("cancelled", s.cancelled)
	t.Run("many at once", s.manyAtOnce)
	t.Run("big", s.big)
	t.Run("held", s.held)
}

type suite struct {
	form store.Form
	open func(t *testing.T, objects map[string][]byte) store.Store
}

// Plains are the plain bytes of chunks as they occur: small, text, random,
// zeros.
func Plains() [][]byte {
	noise := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	return [][]byte{
		{'x'},
		noise[:3000],
		bytes.Repeat([]byte("all work and no play\n"), 5000),
		noise,
		make([]byte, 256<<10),
		append(bytes.Repeat([]byte{0}, 20_000), noise[:40_000]...),
	}
}

// Want asks for the chunk of these plain bytes.
func Want(plain []byte) store.Want {
	return store.Want{ID: chunker.SHA512_256.Sum(plain), Size: len(plain)}
}

// Objects are the objects of chunks in a store of the form f.
func Objects(t testing.TB, f store.Form, plains ...[]byte) map[string][]byte {
	t.Helper()
	m := NewMemory(nil)
	w, err := store.Writable(m, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range plains {
		put(t, w, plain, chunker.SHA512_256)
	}
	return m.Objects()
}

func put(t testing.TB, w store.Writer, plain []byte, d chunker.Digest) {
	t.Helper()
	c := store.NewChunk(d.Sum(plain), d, plain, nil)
	defer c.Release()
	if err := w.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// fetch gets a chunk and verifies it, as somebody up the stack does.
func fetch(ctx context.Context, s store.Store, want store.Want) (*store.Chunk, error) {
	c, err := s.Get(ctx, want)
	if err != nil {
		return nil, err
	}
	if err := c.Verify(); err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}

// check compares what a store gives with plain.
func check(t *testing.T, s store.Store, want store.Want, plain []byte) {
	t.Helper()
	if ok, err := s.Has(t.Context(), want); !ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	c, err := fetch(t.Context(), s, want)
	if err != nil {
		t.Errorf("Get: %v", err)
		return
	}
	defer c.Release()
	if got, err := c.Plain(); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Get: other bytes (%d, want %d), error %v", len(got), len(plain), err)
	}
	if c.ID() != want.ID || !c.Verified() {
		t.Errorf("chunk %v, verified %v", c.ID(), c.Verified())
	}
}

func (s suite) get(t *testing.T) {
	st := s.open(t, Objects(t, s.form, Plains()...))
	for _, plain := range Plains() {
		want := Want(plain)
		check(t, st, want, plain)
		want.Size = 0
		check(t, st, want, plain)
	}
	t.Run("sha256", func(t *testing.T) {
		m, plain := NewMemory(nil), []byte("another digest")
		w, err := store.Writable(m, s.form)
		if err != nil {
			t.Fatal(err)
		}
		put(t, w, plain, chunker.SHA256)
		want := store.Want{ID: chunker.SHA256.Sum(plain), Size: len(plain), Digest: chunker.SHA256}
		check(t, s.open(t, m.Objects()), want, plain)
	})
}

func (s suite) missing(t *testing.T) {
	st := s.open(t, Objects(t, s.form, Plains()[1]))
	want := Want([]byte("never put"))
	if ok, err := st.Has(t.Context(), want); ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	_, err := st.Get(t.Context(), want)
	if !errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("got %v, want ErrMissing", err)
	}
	if text := err.Error(); !strings.Contains(text, want.ID.String()) || strings.Contains(text, "\n") {
		t.Errorf("error %q does not name the chunk in one line", text)
	}
}

func (s suite) spoilt(t *testing.T) {
	plain := Plains()[2]
	forged := bytes.Clone(plain)
	forged[len(forged)/2] ^= 1
	name := s.form.Name(Want(plain).ID)
	good := Objects(t, s.form, plain)[name]
	tests := []struct {
		name   string
		object []byte
		has    bool // cannot be told without reading it
	}{
		{"empty", nil, false},
		{"truncated", good[:len(good)-1], s.form.Compression != store.None},
		{"a byte longer", append(bytes.Clone(good), 0), s.form.Compression != store.None},
		{"another format", bytes.Repeat([]byte("?"), len(good)), true},
		{"forged", Objects(t, s.form, forged)[s.form.Name(Want(forged).ID)], true},
		{"much longer", append(bytes.Clone(good), make([]byte, len(plain)*2)...), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := s.open(t, map[string][]byte{name: tt.object})
			if ok, err := st.Has(t.Context(), Want(plain)); ok != tt.has || err != nil {
				t.Errorf("Has: %v, %v; want %v", ok, err, tt.has)
			}
			_, err := fetch(t.Context(), st, Want(plain))
			if len(tt.object) == 0 && errors.Is(err, store.ErrMissing) {
				return // casync's protocol has no chunk of no bytes
			}
			if !errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrMissing) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			if !strings.Contains(err.Error(), Want(plain).ID.String()) {
				t.Errorf("error %q does not name the chunk", err)
			}
			unknown := store.Want{ID: Want(plain).ID}
			if _, err := fetch(t.Context(), st, unknown); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("size unknown: got %v, want ErrCorrupt", err)
			}
		})
	}
}

func (s suite) otherSize(t *testing.T) {
	plain := Plains()[2]
	st := s.open(t, Objects(t, s.form, plain))
	for _, size := range []int{1, len(plain) - 1, len(plain) + 1, 2 * len(plain)} {
		want := Want(plain)
		want.Size = size
		if _, err := fetch(t.Context(), st, want); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("size %d for %d bytes: got %v, want ErrCorrupt", size, len(plain), err)
		}
	}
}

func (s suite) cancelled(t *testing.T) {
	plain := Plains()[1]
	st := s.open(t, Objects(t, s.form, plain))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.Get(ctx, Want(plain)); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: got %v, want context.Canceled", err)
	}
	check(t, st, Want(plain), plain)
}

func (s suite) manyAtOnce(t *testing.T) {
	plains := Plains()
	st := s.open(t, Objects(t, s.form, plains...))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range plains {
				plain := plains[(i+j)%len(plains)]
				check(t, st, Want(plain), plain)
			}
		})
	}
	wg.Wait()
}

func (s suite) big(t *testing.T) {
	plain := make([]byte, 4<<20)
	for i := 0; i < len(plain); i += 4096 {
		copy(plain[i:], fmt.Sprintf("page %d", i))
	}
	st := s.open(t, Objects(t, s.form, plain))
	check(t, st, Want(plain), plain)
	check(t, st, store.Want{ID: Want(plain).ID}, plain)
}

// held looks whether a chunk stays what it is until it is released, whatever
// happens to others of its size meanwhile.
func (s suite) held(t *testing.T) {
	plains := Plains()
	for i := range 8 {
		noise := bytes.Clone(plains[3])
		noise[0] = byte(i)
		plains = append(plains, noise)
	}
	st := s.open(t, Objects(t, s.form, plains...))
	first := plains[3]
	c, err := fetch(t.Context(), st, Want(first))
	if err != nil {
		t.Fatal(err)
	}
	held := c.Retain()
	c.Release()
	for _, plain := range plains {
		check(t, st, Want(plain), plain)
	}
	if got, err := held.Plain(); err != nil || !bytes.Equal(got, first) {
		t.Errorf("a chunk that is held has changed, error %v", err)
	}
	held.Release()
}
