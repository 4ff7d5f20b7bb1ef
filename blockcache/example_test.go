package blockcache_test

import (
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

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
	st := img.Stats()
	fmt.Println(st.Hits(), "hit,", st.Misses, "miss")
	// Output:
	// "small" <nil>
	// "disk" EOF
	// 1 hit, 1 miss
}

func ExampleFile() {
	disk := oneChunk("a very small disk")
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.DefaultParams())
	if err := b.Append(chunker.SHA256.Sum(disk), len(disk)); err != nil {
		log.Fatal(err)
	}
	x, file := b.Index(), sha512.New512_256()
	if _, err := x.WriteTo(file); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	f, err := blockcache.OpenFile(filepath.Join(dir, "disk.img"), x, blockcache.FileOptions{
		Index: [32]byte(file.Sum(nil)),
		Size:  x.Size(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	img := blockcache.New(x, disk, blockcache.Options{})
	img.Attach(f)
	defer img.Close()
	fmt.Println("complete:", f.Complete())
	if err := img.Fill(context.Background(), f, store.Sweep); err != nil {
		log.Fatal(err)
	}
	content, err := io.ReadAll(img.Backing(0, x.Size()))
	fmt.Printf("%q %v\n", content, err)
	// Output:
	// complete: false
	// "a very small disk" <nil>
}
