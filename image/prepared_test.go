package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/storetest"
)

func TestPrepared(t *testing.T) {
	source := make([]byte, 600_000)
	rand.NewChaCha8([32]byte{1}).Read(source)
	for _, tt := range []struct {
		most, above int
		digest      chunker.Digest
	}{{maxRoot, 0, chunker.SHA512_256}, {maxRoot, 0, chunker.SHA256}, {20_000, 1, chunker.SHA512_256}, {500, 2, chunker.SHA256}} {
		objects := storetest.NewMemory(nil)
		w, err := store.Writable(objects, store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		opt := MakeOptions{Params: chunker.Params{Min: 256, Avg: 1024, Max: 4096}, Digest: tt.digest}
		limit := nesting{root: tt.most, above: maxAbove, bytes: maxRootImage, params: opt.Params}
		made, err := prepare(t.Context(), bytes.NewReader(source), w, opt, limit)
		if err != nil || len(made.Above) != tt.above {
			t.Fatalf("%+v: %d above, %v", tt, len(made.Above), err)
		}
		s := store.Chunks(objects, store.Form{})
		got, err := ReadPrepared(t.Context(), s, made.Root)
		if err != nil || got.Index.Sum() != made.Index.Sum() || len(got.Above) != tt.above {
			t.Fatalf("%+v: %v", tt, err)
		}
		var out bytes.Buffer
		if err := Stream(t.Context(), got.Index, store.Verify(s), &out, 0, got.Index.Size(), StreamOptions{}); err != nil || !bytes.Equal(out.Bytes(), source) {
			t.Errorf("%+v: %d bytes, %v", tt, out.Len(), err)
		}
		var roots Roots
		roots.AddPrepared(got)
		pruned, err := Prune(t.Context(), objects, &roots, PruneOptions{Age: -1})
		if err != nil || pruned.Removed != 0 || pruned.Kept != int64(len(objects.Objects())) {
			t.Errorf("%+v: pruned %+v, %v", tt, pruned, err)
		}
	}
}

// TestPrepareRefuses checks that nothing is prepared that could not be read.
func TestPrepareRefuses(t *testing.T) {
	source := make([]byte, 600_000)
	rand.NewChaCha8([32]byte{1}).Read(source)
	small := chunker.Params{Min: 256, Avg: 1024, Max: 4096}
	for _, limit := range []nesting{
		{root: 500, above: 1, bytes: maxRootImage, params: small},
		{root: 800, above: maxAbove, bytes: 10_000, params: small},
		{root: 100, above: maxAbove, bytes: maxRootImage, params: chunker.DefaultParams()},
	} {
		w, err := store.Writable(storetest.NewMemory(nil), store.Form{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prepare(t.Context(), bytes.NewReader(source), w, MakeOptions{Params: small}, limit); err == nil || !strings.Contains(err.Error(), "larger chunks") {
			t.Errorf("%+v: %v", limit, err)
		}
	}
}

// TestPrepareCuts checks that an index is cut as such, whatever the image's chunks are: by these
// it might get longer each time.
func TestPrepareCuts(t *testing.T) {
	w, err := store.Writable(storetest.NewMemory(nil), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	source := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{1}).Read(source)
	limit := usual
	limit.root = 100_000
	p, err := prepare(t.Context(), bytes.NewReader(source), w, MakeOptions{Params: chunker.Params{Min: 48, Avg: 48, Max: 48}}, limit)
	if err != nil || len(p.Above) != 1 || p.Above[0].Chunking() != chunker.DefaultParams() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestReadPreparedRejects(t *testing.T) {
	objects := storetest.NewMemory(nil)
	w, err := store.Writable(objects, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	level := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(slices.Clone(nestedMagic[:]), n) }
	for name, content := range map[string][]byte{
		"is not what prepare has made": []byte("no index"),
		"is under 0 indexes":           level(0),
		"is under 9 indexes":           level(9),
		"truncated in the header":      level(1),
	} {
		id := chunker.SHA512_256.Sum(content)
		if err := w.Put(t.Context(), store.NewChunk(id, chunker.SHA512_256, content, nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPrepared(t.Context(), store.Chunks(objects, store.Form{}), id); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadPrepared(t.Context(), store.Chunks(objects, store.Form{}), chunker.ID{1}); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v", err)
	}
}
