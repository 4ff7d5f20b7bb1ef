package extents_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"caravel/internal/extents"
)

// TestSets compares unions and differences with those of single bytes.
func TestSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() (list []extents.Extent, bits [60]bool) {
		for range r.IntN(6) {
			e := extents.Extent{Start: r.Int64N(50)}
			e.End = e.Start + r.Int64N(9)
			list = append(list, e)
			for i := e.Start; i < e.End; i++ {
				bits[i] = true
			}
		}
		return list, bits
	}
	for range 2000 {
		a, inA := random()
		b, inB := random()
		union, minus := extents.Union(slices.Clone(a)), extents.Union(slices.Clone(a)).Minus(extents.Union(slices.Clone(b)))
		n := int64(0)
		for i := range inA {
			at := int64(i)
			if got := union.Touches(at, at+1); got != inA[i] {
				t.Fatalf("%v: byte %d: %v", a, i, got)
			}
			if got := minus.Touches(at, at+1); got != (inA[i] && !inB[i]) {
				t.Fatalf("%v without %v: byte %d: %v", a, b, i, got)
			}
			if inA[i] {
				n++
			}
		}
		if union.Bytes() != n {
			t.Fatalf("%v: %d bytes, want %d", a, union.Bytes(), n)
		}
	}
}

// TestOf finds what was written and, where the file system tells, not more.
func TestOf(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if list, err := extents.Of(f, 0); len(list) != 0 || err != nil {
		t.Errorf("an empty file: %v, %v", list, err)
	}
	for _, off := range []int64{1 << 20, 5 << 20} {
		if _, err := f.WriteAt([]byte("something"), off); err != nil {
			t.Fatal(err)
		}
	}
	list, err := extents.Of(f, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{1 << 20, 5 << 20} {
		if !list.Touches(off, off+1) {
			t.Errorf("%v: nothing at %d", list, off)
		}
	}
}
