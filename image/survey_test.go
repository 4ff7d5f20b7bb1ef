package image_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/index"
	"caravel/store"
	"caravel/store/storetest"
)

// chunksOf is an index of chunks that hold one byte each, of a size that it says.
func chunksOf(t *testing.T, bytesOf ...byte) (*index.Index, [][]byte) {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 100, Max: 200})
	var plain [][]byte
	for _, c := range bytesOf {
		chunk := bytes.Repeat([]byte{c}, 10+int(c))
		plain = append(plain, chunk)
		if err := b.Append(chunker.SHA512_256.Sum(chunk), len(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index(), plain
}

func TestUnique(t *testing.T) {
	tests := []struct {
		chunks []byte
		rows   []int
		place  []int
	}{
		{nil, nil, nil},
		{[]byte{1}, []int{0}, []int{0}},
		{[]byte{1, 1, 1}, []int{0}, []int{0, 0, 0}},
		{[]byte{3, 1, 3, 2, 1, 4}, []int{0, 1, 3, 5}, []int{0, 1, 0, 2, 1, 3}},
	}
	for _, tt := range tests {
		x, _ := chunksOf(t, tt.chunks...)
		u := image.UniqueOf(x)
		if !slices.Equal(u.Rows, tt.rows) || !slices.Equal(u.Place, tt.place) {
			t.Errorf("%v: rows %v, places %v", tt.chunks, u.Rows, u.Place)
		}
	}
}

// TestUniqueMany compares with a map.
func TestUniqueMany(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	chunks := make([]byte, 2000)
	for i := range chunks {
		chunks[i] = byte(random.UintN(90))
	}
	x, _ := chunksOf(t, chunks...)
	u := image.UniqueOf(x)
	first := map[chunker.ID]int{}
	for row := range x.Len() {
		id := x.Chunk(row).ID
		if _, known := first[id]; !known {
			first[id] = row
		}
		if u.Rows[u.Place[row]] != first[id] {
			t.Fatalf("row %d is said to be like %d, not %d", row, u.Rows[u.Place[row]], first[id])
		}
	}
	if len(u.Rows) != len(first) || !slices.IsSorted(u.Rows) {
		t.Errorf("%d rows of %d", len(u.Rows), len(first))
	}
}

func TestTallyAndSeeds(t *testing.T) {
	x, _ := chunksOf(t, 1, 2, 1, 3)
	one, _ := chunksOf(t, 9, 3)
	two, _ := chunksOf(t, 1)
	u := image.UniqueOf(x)
	if got := u.Tally(func(int) bool { return true }); got != (image.Tally{Chunks: 3, Bytes: 11 + 12 + 13}) {
		t.Errorf("got %+v", got)
	}
	if got := u.Seeded(one, two); !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("seeds have %v", got)
	}
	if got := u.Seeded(); slices.Contains(got, true) {
		t.Errorf("no seeds have %v", got)
	}
}

// filled is a memory store with chunks in it.
func filled(t *testing.T, plain ...[]byte) *storetest.Memory {
	t.Helper()
	m := storetest.NewMemory(nil)
	w, err := store.Writable(m, store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plain {
		if err := w.Put(t.Context(), store.NewChunk(chunker.SHA512_256.Sum(p), chunker.SHA512_256, p, nil)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestSurvey(t *testing.T) {
	x, plain := chunksOf(t, 1, 2, 1, 3)
	u := image.UniqueOf(x)
	one, two := filled(t, plain[0], plain[1]), filled(t, plain[3])
	stores := []store.Store{store.Chunks(one, store.Form{}), store.Chunks(two, store.Form{})}
	there, err := image.Survey(t.Context(), u, stores, image.SurveyOptions{})
	if err != nil || !slices.Equal(there[0], []bool{true, true, false}) || !slices.Equal(there[1], []bool{false, false, true}) {
		t.Errorf("there are %v, %v", there, err)
	}
	sizes, err := image.Stored(t.Context(), u, one, store.Form{}, image.SurveyOptions{InFlight: 1})
	if err != nil || sizes[0] < 5 || sizes[1] < 5 || sizes[2] != -1 {
		t.Errorf("sizes are %v, %v", sizes, err)
	}
	down := errors.New("down")
	if _, err := image.Survey(t.Context(), u, append(stores, silent{down}), image.SurveyOptions{}); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(down)
	if _, err := image.Survey(ended, u, stores, image.SurveyOptions{}); !errors.Is(err, down) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// silent is a store that does not answer.
type silent struct{ err error }

func (s silent) Get(context.Context, store.Want) (*store.Chunk, error) { return nil, s.err }
func (s silent) Has(context.Context, store.Want) (bool, error)         { return false, s.err }
