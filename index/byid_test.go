package index_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

// TestByID finds each chunk of an index at its first row, and none that it has not.
func TestByID(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	b := index.NewBuilder(feature.Blob(0), chunker.DefaultParams())
	first := map[chunker.ID]int32{}
	for row := range int32(1000) {
		id := chunker.ID{byte(rnd.IntN(100)), 1}
		if err := b.Append(id, 20_000); err != nil {
			t.Fatal(err)
		}
		if _, ok := first[id]; !ok {
			first[id] = row
		}
	}
	x := b.Index()
	rows := x.RowsByID()
	for i := 1; i < len(rows); i++ {
		before, after := x.ID(int(rows[i-1])), x.ID(int(rows[i]))
		if c := bytes.Compare(before[:], after[:]); c > 0 || c == 0 && rows[i-1] >= rows[i] {
			t.Fatalf("row %d before %d", rows[i-1], rows[i])
		}
	}
	for id, row := range first {
		if at, ok := x.SearchByID(rows, id); !ok || rows[at] != row {
			t.Errorf("%v: at %d, %v, want row %d", id, at, ok, row)
		}
	}
	if _, ok := x.SearchByID(rows, chunker.ID{3, 2}); ok {
		t.Error("what is not there is found")
	}
}
