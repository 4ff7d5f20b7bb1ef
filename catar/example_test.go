package catar_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"caravel/catar"
	"caravel/feature"
)

// An archive of two files, written and read.
func Example() {
	var archive bytes.Buffer
	e, err := catar.NewEncoder(&archive, feature.Permissions|feature.Symlinks|feature.SHA512_256)
	if err != nil {
		log.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	must(e.Begin("", &catar.Entry{Mode: 0o40755}))
	must(e.Begin("hello", &catar.Entry{Mode: 0o100644, Size: 6}))
	_, err = io.WriteString(e, "world\n")
	must(err)
	must(e.Begin("link", &catar.Entry{Mode: 0o120777, Target: "hello"}))
	must(e.End())

	for d := catar.NewDecoder(&archive, catar.DecoderOptions{}); ; {
		n, err := d.Next()
		if err == io.EOF {
			break
		}
		must(err)
		payload, err := io.ReadAll(d)
		must(err)
		fmt.Printf("%o %q %q %q\n", n.Mode, n.Name, n.Target, payload)
	}
	// Output:
	// 40755 "" "" ""
	// 100644 "hello" "" "world\n"
	// 120777 "link" "hello" ""
}

// One file of an archive is found without reading the others: the end of the
// root leads to its table, that to the file.
func ExampleTable_Find() {
	archive, err := smallArchive()
	if err != nil {
		log.Fatal(err)
	}
	end := int64(len(archive))
	root, flags, err := catar.ParseHead(archive, 0, end, 0)
	if err != nil {
		log.Fatal(err)
	}
	goodbye, _, err := catar.ParseTail(archive[end-catar.TailSize:], end)
	if err != nil {
		log.Fatal(err)
	}
	table, err := catar.ParseTable(archive[goodbye:], root.Body, goodbye)
	if err != nil {
		log.Fatal(err)
	}
	for _, span := range table.Find("hello") {
		n, _, err := catar.ParseHead(archive[span.Start:span.End], span.Start, span.End, flags)
		if err != nil {
			log.Fatal(err)
		}
		if n.Name == "hello" { // and not just of the same hash
			fmt.Printf("%q\n", archive[n.Body:n.Body+n.Size])
		}
	}
	// Output: "world\n"
}

func smallArchive() ([]byte, error) {
	var archive bytes.Buffer
	e, err := catar.NewEncoder(&archive, feature.SHA512_256)
	if err != nil {
		return nil, err
	}
	_ = e.Begin("", &catar.Entry{Mode: 0o40755})
	_ = e.Begin("hello", &catar.Entry{Mode: 0o100644, Size: 6})
	_, _ = io.WriteString(e, "world\n")
	_ = e.Begin("other", &catar.Entry{Mode: 0o100644})
	err = e.End() // which says what went wrong before
	return archive.Bytes(), err
}
