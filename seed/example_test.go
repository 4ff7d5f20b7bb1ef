package seed_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/seed"
	"caravel/store"
)

// A new version of a disk has something in front. What follows is in the former one.
func Example() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	former := noise(1, 100_000)
	_ = os.WriteFile(filepath.Join(dir, "disk-v1.img"), former, 0o644)
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), small)
	for chunk := range chunker.Chunks(bytes.NewReader(append([]byte("news"), former...)), small) {
		_ = b.Append(chunker.SHA512_256.Sum(chunk), len(chunk))
	}
	x := b.Index()

	seeds := seed.New(x, seed.Options{})
	defer seeds.Close()
	if err := seeds.Add(filepath.Join(dir, "disk-v1.img")); err != nil {
		fmt.Println(err)
	}
	_ = seeds.Index(context.Background(), nil)
	missing := 0
	for i := range x.Len() {
		if ok, _ := seeds.Has(context.Background(), store.Want{ID: x.Chunk(i).ID}); !ok {
			missing++
		}
	}
	fmt.Println("chunks to be fetched:", missing)
	// Output: chunks to be fetched: 1
}
