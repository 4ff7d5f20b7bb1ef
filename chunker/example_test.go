package chunker_test

import (
	"fmt"
	"strings"

	"caravel/chunker"
)

func ExampleChunks() {
	p, err := chunker.ParseParams("64:256:1K")
	if err != nil {
		fmt.Println(err)
		return
	}
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintln(&text, "line", i)
	}
	known := make(map[chunker.ID]bool)
	for _, version := range []string{text.String(), "one more line\n" + text.String()} {
		chunks, fresh := 0, 0
		for chunk, err := range chunker.Chunks(strings.NewReader(version), p) {
			if err != nil {
				fmt.Println(err)
				return
			}
			id := chunker.SHA512_256.Sum(chunk)
			chunks++
			if !known[id] {
				fresh++
			}
			known[id] = true
		}
		fmt.Println(chunks, "chunks,", fresh, "of them new")
	}
	// Output:
	// 33 chunks, 33 of them new
	// 33 chunks, 1 of them new
}

func ExampleParseSize() {
	size, err := chunker.ParseSize("1M512K")
	fmt.Println(size, err)
	// Output:
	// 1572864 <nil>
}
