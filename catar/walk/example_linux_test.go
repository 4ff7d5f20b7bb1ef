package walk_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"caravel/catar/walk"
	"caravel/feature"
)

// The same tree gives the same archive, whoever packs it: with few features
// nothing is in it but names and contents.
func Example() {
	dir, err := os.MkdirTemp("", "walk")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("world\n"), 0o644); err != nil {
		fmt.Println(err)
		return
	}

	r, err := walk.Open(context.Background(), dir, feature.SHA512_256, walk.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	digest := feature.SHA512_256.Digest().New()
	n, err := io.Copy(digest, r)
	fmt.Println(n, "bytes,", r.Stats().Entries, "entries, error", err)
	fmt.Printf("%x\n", digest.Sum(nil))
	// Output:
	// 236 bytes, 2 entries, error <nil>
	// 074ed5cf4f0cf80a13d648ea43c539c1cda81cdd1ffe71da606137348674d86d
}
