package tree_test

import (
	"context"
	"fmt"
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
