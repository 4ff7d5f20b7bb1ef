package tree_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"caravel/catar/tree"
)

// BenchmarkLookup finds entries that were seen before: one of 1000 in a
// directory that was listed, and in one that was not.
func BenchmarkLookup(b *testing.B) {
	data := unpack(b, "many.catar.gz")
	names := make([]string, 0, 1000)
	list, err := open(b, data).Children(b.Context(), tree.Root)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range list {
		names = append(names, c.Name)
	}
	for _, listed := range []bool{true, false} {
		b.Run(fmt.Sprintf("listed=%v", listed), func(b *testing.B) {
			tr := open(b, data)
			for _, name := range names {
				if _, err := tr.Lookup(b.Context(), tree.Root, name); err != nil {
					b.Fatal(err)
				}
			}
			if listed {
				if _, err := tr.Children(b.Context(), tree.Root); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if a, err := tr.Lookup(b.Context(), tree.Root, names[i%1000]); err != nil || a.ID == 0 {
					b.Fatal(a, err)
				}
			}
		})
	}
}

// BenchmarkLookupMissing looks for what is not there.
func BenchmarkLookupMissing(b *testing.B) {
	tr := open(b, unpack(b, "many.catar.gz"))
	if _, err := tr.Children(b.Context(), tree.Root); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.Lookup(b.Context(), tree.Root, "not there"); err == nil {
			b.Fatal("found")
		}
	}
}

// BenchmarkAttr reads what is known of an entry.
func BenchmarkAttr(b *testing.B) {
	tr := open(b, unpack(b, "many.catar.gz"))
	if _, err := tr.Children(b.Context(), tree.Root); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if id := tree.ID(i%1000 + 1); tr.Attr(id).ID != id {
			b.Fatal(id)
		}
	}
}

// BenchmarkChildren lists a directory of 1000 that was listed before.
func BenchmarkChildren(b *testing.B) {
	tr := open(b, unpack(b, "many.catar.gz"))
	b.ReportAllocs()
	for b.Loop() {
		if list, err := tr.Children(b.Context(), tree.Root); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkWalk walks the tree of the Go distribution, from a source in memory
// the first time, and when all is known.
func BenchmarkWalk(b *testing.B) {
	file, size := distribution(b)
	data := make(memory, size)
	if _, err := file.ReadAt(data, 0); err != nil && err != io.EOF {
		b.Fatal(err)
	}
	walk := func(b *testing.B, tr *tree.Tree) {
		n := 0
		for _, err := range tr.Walk(b.Context(), tree.Root, -1) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != tr.Len() || n < 10_000 {
			b.Fatalf("%d steps, %d entries", n, tr.Len())
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tr, err := tree.Open(context.Background(), data, size, tree.Options{})
			if err != nil {
				b.Fatal(err)
			}
			walk(b, tr)
		}
	})
	b.Run("warm", func(b *testing.B) {
		tr, err := tree.Open(context.Background(), data, size, tree.Options{})
		if err != nil {
			b.Fatal(err)
		}
		walk(b, tr)
		b.ReportAllocs()
		for b.Loop() {
			walk(b, tr)
		}
	})
}
