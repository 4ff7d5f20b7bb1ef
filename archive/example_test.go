package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"

	"caravel/archive"
	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/store/open"
)

// One directory of an archive that comes through a pipe, then one file of it.
func Example() {
	ctx := context.Background()
	a := archive.NewFile("-", open.Options{Stdin: bytes.NewReader(smallArchive())}, nil)
	defer a.Close()

	t, err := a.Random(ctx) // copies it
	if err != nil {
		log.Fatal(err)
	}
	file, err := t.Find(ctx, "etc/motd")
	if err != nil {
		log.Fatal(err)
	}
	for name, err := range t.Names(ctx, tree.Root) {
		fmt.Println(name, err)
	}
	text := make([]byte, 5)
	n, err := t.File(t.Payload(file.ID)).ReadAt(ctx, text, 6)
	fmt.Printf("%q %v\n", text[:n], err)
	// Output:
	// etc <nil>
	// etc/motd <nil>
	// link <nil>
	// "world" <nil>
}

func ExampleEntriesAt() {
	ctx := context.Background()
	a := archive.NewFile("-", open.Options{Stdin: bytes.NewReader(smallArchive())}, nil)
	defer a.Close()
	at, err := archive.EntriesAt(ctx, a, "etc")
	if err != nil {
		log.Fatal(err)
	}
	defer at.Close()
	for e, err := range at.All {
		if err != nil {
			log.Fatal(err)
		}
		text, err := io.ReadAll(at)
		fmt.Printf("%s %o %q %v\n", e.Path, e.Mode, text, err)
	}
	// Output:
	// etc 40755 "" <nil>
	// etc/motd 100644 "hello world\n" <nil>
}

func smallArchive() []byte {
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, feature.Permissions|feature.Symlinks|feature.SHA512_256)
	if err != nil {
		log.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	must(e.Begin("", &catar.Entry{Mode: 0o40755}))
	must(e.Begin("etc", &catar.Entry{Mode: 0o40755}))
	must(e.Begin("motd", &catar.Entry{Mode: 0o100644, Size: 12}))
	_, err = io.WriteString(e, "hello world\n")
	must(err)
	must(e.End())
	must(e.Begin("link", &catar.Entry{Mode: 0o120777, Target: "etc/motd"}))
	must(e.End())
	return b.Bytes()
}
