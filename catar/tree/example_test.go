package tree_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"os"

	"caravel/catar/tree"
)

func Example() {
	ctx := context.Background()
	data, err := os.ReadFile("testdata/small.catar")
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := tree.Open(ctx, memory(data), int64(len(data)), tree.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := t.Find(ctx, "n02")
	if err != nil {
		fmt.Println(err)
		return
	}
	for step, err := range t.Walk(ctx, a.ID, -1) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%o %d %q\n", step.Mode, step.Size, step.Path)
	}
	// Output:
	// 40755 0 ""
	// 100644 0 "f0"
	// 100644 0 "f1"
}

// A sidecar is made of an archive while that goes by. With it the entries are
// known before anything of the archive is read.
func ExampleReadSidecar() {
	ctx := context.Background()
	data, err := os.ReadFile("testdata/small.catar")
	if err != nil {
		fmt.Println(err)
		return
	}
	index := sha512.Sum512_256([]byte("the index file"))
	skim := tree.NewSkimmer()
	_, _ = io.Copy(io.Discard, io.TeeReader(bytes.NewReader(data), skim))
	file, err := skim.Sidecar(index)
	if err != nil {
		fmt.Println(err)
		return
	}

	s, err := tree.ReadSidecar(bytes.NewReader(file), index, int64(len(data)))
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := tree.Open(ctx, memory(data), s.Size(), tree.Options{Sidecar: s})
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := t.Find(ctx, "n02/f0")
	fmt.Printf("%o %d %v\n", a.Mode, a.Size, err)
	fmt.Println(t.ConfirmPath(ctx, a.ID))
	// Output:
	// 100644 0 <nil>
	// <nil>
}
