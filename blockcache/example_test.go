package blockcache_test

import (
	"context"
	"fmt"
	"log"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// oneChunk is a store with a single chunk.
type oneChunk []byte

func (s oneChunk) Get(_ context.Context, w store.Want) (*store.Chunk, error) {
	return store.NewStored(w, "here", store.None, s, nil), nil
}

func (s oneChunk) Has(context.Context, store.Want) (bool, error) { return true, nil }

func Example() {
	disk := oneChunk("a very small disk")
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.DefaultParams())
	if err := b.Append(chunker.SHA256.Sum(disk), len(disk)); err != nil {
		log.Fatal(err)
	}

	memory := blockcache.NewMemory(64 << 20)
	img := blockcache.New(b.Index(), disk, blockcache.Options{Memory: memory})
	defer img.Close()

	view := img.View(store.Demand)
	p := make([]byte, 5)
	for _, off := range []int64{7, 13} {
		n, err := view.ReadAt(context.Background(), p, off)
		fmt.Printf("%q %v\n", p[:n], err)
	}
	fmt.Printf("%+v\n", img.Stats())
	// Output:
	// "small" <nil>
	// "disk" EOF
	// {Hits:1 Misses:1 Bytes:9}
}
