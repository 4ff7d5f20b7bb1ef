package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

// keep is a use of Stored that keeps what it should not.
func keep(b *[]byte) func([]byte) error {
	return func(stored []byte) error {
		*b = stored
		return nil
	}
}

func drop([]byte) error { return nil }

// stored returns a chunk as it comes from a store of the form f, and counts in
// freed how often its buffer was given back.
func stored(t *testing.T, f store.Form, plain []byte, freed *int) (*store.Chunk, []byte) {
	t.Helper()
	want := storetest.Want(plain)
	b := storetest.Objects(t, f, plain)[f.Name(want.ID)]
	return store.NewSealed(want, "there", f.Key, f.Compression, b, func() { *freed++ }), b
}

func TestChunkFreesOnce(t *testing.T) {
	plain := storetest.Plains()[2]
	tests := []struct {
		name string
		use  func(c *store.Chunk)
	}{
		{"unused", func(*store.Chunk) {}},
		{"unpacked", func(c *store.Chunk) { c.Verify() }},
		{"compact", func(c *store.Chunk) { c.Verify(); c.Compact(); c.Compact() }},
		{"compact while packed", func(c *store.Chunk) { c.Compact() }},
		{"packed otherwise", func(c *store.Chunk) { c.Stored(store.Form{Compression: store.Gzip}, drop); c.Compact() }},
		{"packed alike", func(c *store.Chunk) { c.Stored(store.Form{}, drop); c.Compact() }},
		{"retained", func(c *store.Chunk) { c.Retain(); c.Release() }},
	}
	for _, tt := range tests {
		for _, f := range []store.Form{{}, {Compression: store.None}} {
			t.Run(fmt.Sprintf("%s %v", tt.name, f.Compression), func(t *testing.T) {
				freed := 0
				c, _ := stored(t, f, plain, &freed)
				tt.use(c)
				if err := c.Verify(); err != nil {
					t.Error(err)
				}
				if got, err := c.Plain(); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("other bytes, error %v", err)
				}
				c.Release()
				if freed != 1 {
					t.Errorf("freed %d times", freed)
				}
			})
		}
	}
}

func TestCompact(t *testing.T) {
	plain, freed := storetest.Plains()[2], 0
	c, packed := stored(t, store.Form{}, plain, &freed)
	c.Compact()
	if freed != 0 {
		t.Error("what is only there packed was freed")
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	c.Compact()
	if freed != 1 {
		t.Error("the packed bytes are still there")
	}
	err := c.Stored(store.Form{}, func(again []byte) error {
		c.Compact()
		if !bytes.Equal(again, packed) {
			t.Errorf("packed again: %d bytes, want %d", len(again), len(packed))
		}
		return c.Stored(store.Form{}, func(now []byte) error {
			if &now[0] != &again[0] {
				t.Error("packed twice while in use")
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
	c.Release()
}

// A chunk that was also written to a store does not keep what was written.
func TestCompactAfterStored(t *testing.T) {
	plain, freed := storetest.Plains()[2], 0
	c, _ := stored(t, store.Form{}, plain, &freed)
	defer c.Release()
	err := c.Stored(store.Form{}, func([]byte) error {
		c.Compact()
		if freed != 0 {
			t.Error("bytes in use were freed")
		}
		return nil
	})
	if err != nil || freed != 1 {
		t.Errorf("freed %d times after the last use, error %v", freed, err)
	}
}

// Stored hands on what came, and packs once what did not.
func TestStored(t *testing.T) {
	plain, freed := storetest.Plains()[2], 0
	for _, came := range forms {
		for _, asked := range forms {
			c, packed := stored(t, came, plain, &freed)
			var got, again []byte
			if err := c.Stored(asked, keep(&got)); err != nil {
				t.Fatal(err)
			}
			if came.Compression == asked.Compression && came.Key.Same(asked.Key) && &got[0] != &packed[0] {
				t.Errorf("%v as %v: packed again", came, asked)
			}
			other := store.NewSealed(storetest.Want(plain), "", asked.Key, asked.Compression, got, nil)
			if err := other.Verify(); err != nil {
				t.Errorf("%v as %v: %v", came, asked, err)
			}
			if err := c.Stored(asked, keep(&again)); err != nil || &again[0] != &got[0] {
				t.Errorf("%v as %v: made twice, error %v", came, asked, err)
			}
			c.Release()
		}
	}
	c, _ := stored(t, store.Form{}, plain, &freed)
	defer c.Release()
	if err := c.Stored(store.Form{Compression: store.XZ, Level: 10}, drop); err == nil {
		t.Error("level 10 was accepted")
	}
}

func TestStoredOfCorruptChunk(t *testing.T) {
	c := store.NewStored(storetest.Want([]byte("x")), "there", store.Zstd, []byte("no frame"), nil)
	defer c.Release()
	for _, f := range forms {
		if err := c.Stored(f, drop); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%v: got %v, want ErrCorrupt", f, err)
		}
	}
}

func TestChunkSize(t *testing.T) {
	plain := []byte("five.")
	for size, ok := range map[int]bool{0: true, 4: false, 5: true, 6: false} {
		want := storetest.Want(plain)
		want.Size = size
		c := store.NewStored(want, "there", store.None, plain, nil)
		err := c.Verify()
		if (err == nil) != ok || err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("size %d: %v", size, err)
		}
		if err != nil && !strings.HasSuffix(err.Error(), fmt.Sprintf("5 bytes, the index says %d, in there", size)) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestChunkMisused(t *testing.T) {
	uses := map[string]func(*store.Chunk){
		"Plain":   func(c *store.Chunk) { c.Plain() },
		"Stored":  func(c *store.Chunk) { c.Stored(store.Form{}, drop) },
		"Retain":  func(c *store.Chunk) { c.Retain() },
		"Release": func(c *store.Chunk) { c.Release() },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			c := store.NewChunk(chunker.ID{}, 0, []byte("x"), nil)
			c.Release()
			defer func() {
				if recover() == nil {
					t.Error("nobody noticed")
				}
			}()
			use(c)
		})
	}
}

func TestChunkShared(t *testing.T) {
	plain, freed := storetest.Plains()[2], 0
	c, _ := stored(t, store.Form{}, plain, &freed)
	var wg sync.WaitGroup
	for i := range 8 {
		c.Retain()
		wg.Go(func() {
			defer c.Release()
			if err := c.Verify(); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				c.Compact()
			}
			err := c.Stored(forms[i], func(b []byte) error {
				other := store.NewStored(storetest.Want(plain), "", forms[i].Compression, b, nil)
				defer other.Release()
				return other.Verify()
			})
			if err != nil {
				t.Error(err)
			}
			if b, err := c.Plain(); err != nil || !bytes.Equal(b, plain) {
				t.Error("other bytes", err)
			}
		})
	}
	c.Release()
	wg.Wait()
	if freed != 1 {
		t.Errorf("freed %d times", freed)
	}
}

// AsCame lends what came, or the plain bytes where that is all there is.
func TestAsCame(t *testing.T) {
	plain := storetest.Plains()[2]
	for _, f := range []store.Form{{}, {Compression: store.None}} {
		freed := 0
		c, came := stored(t, f, plain, &freed)
		if err := c.Verify(); err != nil {
			t.Fatal(err)
		}
		err := c.AsCame(func(b []byte, packed bool) error {
			if !bytes.Equal(b, came) || packed != (f.Compression != store.None) {
				t.Errorf("%v: %d bytes, want %d; packed %v", f.Compression, len(b), len(came), packed)
			}
			c.Compact()
			if freed != 0 {
				t.Error("bytes in use were freed")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		broken := errors.New("broken")
		err = c.AsCame(func(b []byte, packed bool) error {
			if !bytes.Equal(b, plain) || packed {
				t.Errorf("%v, compact: %d bytes, want %d; packed %v", f.Compression, len(b), len(plain), packed)
			}
			return broken
		})
		if err != broken {
			t.Errorf("got %v, want the error of use", err)
		}
		c.Release()
		if freed != 1 {
			t.Errorf("freed %d times", freed)
		}
	}
}

// A buffer for a chunk comes from the pool, and goes back there.
func TestBuffer(t *testing.T) {
	for _, n := range []int{1, 25_000, 1 << 20} {
		b, free := store.Buffer(n)
		if len(b) != n {
			t.Fatalf("%d bytes, want %d", len(b), n)
		}
		plain := bytes.Repeat([]byte{1}, n)
		copy(b, plain)
		c := store.NewStored(storetest.Want(plain), "", store.None, b, free)
		if err := c.Verify(); err != nil {
			t.Error(err)
		}
		c.Release()
	}
}
