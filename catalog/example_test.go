package catalog_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
)

func ExampleOpen() {
	ctx := context.Background()
	opt := catalog.Options{Sides: []string{".tree"}}
	opt.Open.Stdin = smallIndex()
	img, err := catalog.Open(ctx, "-", opt)
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	fmt.Println(img.Index.Len(), "chunk of", img.Table.Size(), "bytes")
	_, err = img.Side(ctx, ".tree")
	fmt.Println("beside standard input:", err)
	// Output:
	// 1 chunk of 5 bytes
	// beside standard input: not there
}

func smallIndex() *bytes.Buffer {
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.DefaultParams())
	if err := b.Append(chunker.SHA512_256.Sum([]byte("hello")), 5); err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := b.Index().WriteTo(&file); err != nil {
		log.Fatal(err)
	}
	return &file
}
