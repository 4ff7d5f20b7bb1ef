package restore_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/feature"
)

func ExampleTree() {
	var archive bytes.Buffer
	e, err := catar.NewEncoder(&archive, feature.Permissions)
	if err != nil {
		log.Fatal(err)
	}
	for _, err := range []error{
		e.Begin("", &catar.Entry{Mode: unix.S_IFDIR | 0o755}),
		e.Begin("greeting", &catar.Entry{Mode: unix.S_IFREG | 0o640, Size: 5}),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	if _, err := e.Write([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	if err := e.End(); err != nil {
		log.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "restore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		log.Fatal(err)
	}
	decode := func() *catar.Decoder {
		return catar.NewDecoder(bytes.NewReader(archive.Bytes()), catar.DecoderOptions{})
	}
	_, err = restore.Tree(context.Background(), decode(), dir, restore.Options{})
	extra, _ := err.(*restore.ExtraError)
	fmt.Println(extra.Count, extra.First)

	stats, err := restore.Tree(context.Background(), decode(), dir, restore.Options{Delete: restore.KeepExtra})
	if err != nil {
		log.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "greeting"))
	fmt.Printf("%s, %d entries\n", b, stats.Entries)
	// Output:
	// 1 mine
	// hello, 2 entries
}
