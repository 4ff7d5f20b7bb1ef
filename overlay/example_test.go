package overlay_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"caravel/overlay"
)

// An image that can only be read.
type image struct{ *bytes.Reader }

func (i image) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return i.Reader.ReadAt(p, off)
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	base := image{bytes.NewReader([]byte("the image says: hello"))}

	disk, err := overlay.Open(filepath.Join(dir, "vm.overlay"), base, base.Size(), overlay.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := disk.WriteAt(ctx, []byte("disk "), 4); err != nil {
		log.Fatal(err)
	}
	if err := disk.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, disk.Size())
	if _, err := disk.ReadAt(ctx, p, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", p)
	if err := disk.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: the disk  says: hello
}
