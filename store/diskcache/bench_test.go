//go:build unix

package diskcache_test

import (
	"testing"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"
)

func BenchmarkGet(b *testing.B) {
	c := open(b, b.TempDir(), diskcache.Options{})
	plain := storetest.Plains()[3][:25_000]
	put(b, c, plain)
	want := storetest.Want(plain)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		chunk, err := c.Get(b.Context(), want)
		if err != nil || chunk.Came() != len(plain) {
			b.Fatal(err)
		}
		chunk.Release()
	}
}

// BenchmarkPut writes 25-KB chunks, and evicts.
func BenchmarkPut(b *testing.B) {
	c := open(b, b.TempDir(), diskcache.Options{Size: 256 << 20})
	plain := storetest.Plains()[3][:25_000]
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	var id chunker.ID
	n := int64(0)
	for b.Loop() {
		n++
		id[0], id[1], id[2], id[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
		chunk := store.NewChunk(id, chunker.SHA512_256, plain, nil)
		if err := c.Put(b.Context(), chunk); err != nil {
			b.Fatal(err)
		}
		chunk.Release()
	}
	if err := c.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	if s := c.Stats(); s.Kept+s.Failed != n || s.Bytes > s.Budget*17/16 {
		b.Fatalf("%d chunks: %+v", n, s)
	}
	b.ReportMetric(float64(c.Stats().Failed)/float64(n), "failed/op")
}
