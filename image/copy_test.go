package image_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"caravel/chunker"
	"caravel/image"
	"caravel/index"
	"caravel/store"
	"caravel/store/storetest"
)

// copied is an image of a few chunks, some of which repeat.
func copied(t *testing.T) (*index.Index, *storetest.Memory) {
	t.Helper()
	m := storetest.NewMemory(nil)
	w, err := store.Writable(m, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat(storetest.Plains()[3], 3)
	got, err := image.Make(t.Context(), bytes.NewReader(data), w, image.MakeOptions{Params: chunker.Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Index, m
}

// TestCopy copies each chunk once, as it is where the form is the same.
func TestCopy(t *testing.T) {
	x, from := copied(t)
	wants := image.Distinct(x, map[chunker.ID]bool{})
	if len(wants) >= x.Len() || len(wants) < 10 {
		t.Fatalf("%d chunks of %d", len(wants), x.Len())
	}
	key, err := store.ParseKey(store.AES256GCM, strings.Repeat("0a", 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []store.Form{{}, {Compression: store.None}, {Key: key}} {
		to := storetest.NewMemory(nil)
		dst, err := store.Writable(to, f)
		if err != nil {
			t.Fatal(err)
		}
		var progress atomic.Int64
		opt := image.CopyOptions{Progress: &progress}
		first, err := image.Copy(t.Context(), dst, store.Chunks(from, store.Form{}), wants[:5], opt)
		if err != nil || first.Copied != 5 || first.Present != 0 || first.Bytes != progress.Load() {
			t.Fatalf("%+v, progress %d, error %v", first, progress.Load(), err)
		}
		rest, err := image.Copy(t.Context(), dst, store.Chunks(from, store.Form{}), wants, opt)
		if err != nil || rest.Copied != int64(len(wants)-5) || rest.Present != 5 {
			t.Fatalf("%+v, error %v", rest, err)
		}
		same := maps.EqualFunc(to.Objects(), from.Objects(), bytes.Equal)
		if as := f == (store.Form{}); same != as {
			t.Errorf("%+v: as they came: %v, want %v", f, same, as)
		}
		for _, want := range wants {
			c, err := store.Verify(dst).Get(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			c.Release()
		}
	}
}

// TestCopyStops at what is missing or corrupt, and when it is told to.
func TestCopyStops(t *testing.T) {
	x, from := copied(t)
	wants := image.Distinct(x, map[chunker.ID]bool{x.Chunk(0).ID: true})
	if wants[0].ID == x.Chunk(0).ID {
		t.Error("what is known is listed")
	}
	name := store.Form{}.Name(wants[3].ID)
	spoilt := maps.Clone(from.Objects())
	spoilt[name] = spoilt[store.Form{}.Name(wants[4].ID)]
	lacking := maps.Clone(from.Objects())
	delete(lacking, name)
	ended, end := context.WithCancel(t.Context())
	end()
	for _, tt := range []struct {
		ctx  context.Context
		from map[string][]byte
		want error
	}{
		{t.Context(), spoilt, store.ErrCorrupt},
		{t.Context(), lacking, store.ErrMissing},
		{ended, from.Objects(), context.Canceled},
	} {
		to := storetest.NewMemory(nil)
		dst, err := store.Writable(to, store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := image.Copy(tt.ctx, dst, store.Chunks(storetest.NewMemory(tt.from), store.Form{}), wants, image.CopyOptions{}); !errors.Is(err, tt.want) {
			t.Errorf("got %v, want %v", err, tt.want)
		}
		if _, there := to.Objects()[name]; there {
			t.Error("a chunk that is not right was copied")
		}
	}
}
