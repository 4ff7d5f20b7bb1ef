//go:build linux

package fusefs_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"caravel/catar/tree"
	"caravel/fusefs"
)

type text struct{ *strings.Reader }

func (t text) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return t.Reader.ReadAt(p, off)
}

// No output is compared: it takes a machine that may mount.
func ExampleMountFile() {
	content := text{strings.NewReader("what an image holds\n")}
	m, err := fusefs.MountFile("/mnt/image", fusefs.File{
		Name:   "disk",
		Size:   content.Size(),
		Reader: content,
	}, fusefs.Options{Mkdir: true})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Unmount()

	f, err := os.Open("/mnt/image/disk")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	fmt.Printf("%s%v\n", b, err)
}

// No output is compared: it takes a machine that may mount.
func ExampleMountTree() {
	file, err := os.Open("tree.catar")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		log.Fatal(err)
	}
	archive := stored{file}
	t, err := tree.Open(context.Background(), archive, st.Size(), tree.Options{})
	if err != nil {
		log.Fatal(err)
	}
	open := func(off, size int64) fusefs.Reader { return part{archive, off, size} }
	m, err := fusefs.MountTree("/mnt/tree", t, open, fusefs.Options{Mkdir: true, FSName: "tree.catar"})
	if err != nil {
		log.Fatal(err)
	}
	<-m.Done()
}
