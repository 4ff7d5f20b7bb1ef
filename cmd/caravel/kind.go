package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/catar"
	"caravel/feature"
	"caravel/index"
)

// A kind is what a command reads or makes, in casync's words.
type kind string

// The kinds. An index whose name does not say of what is told by its flags.
const (
	unknownKind  kind = ""
	archiveKind  kind = "archive"
	archiveIndex kind = "archive-index"
	blobKind     kind = "blob"
	blobIndex    kind = "blob-index"
	folderKind   kind = "directory"

	kindHelp kind = "help" // no kind: the user wants to see which there are
)

// whatFlag lets the user say a kind where the name of a file does not.
func whatFlag(to *kind, kinds ...kind) cli.Flag {
	words := joinKinds(kinds)
	parse := func(s string) (kind, error) {
		if k := kind(s); k == kindHelp || slices.Contains(kinds, k) {
			return k, nil
		}
		return "", errors.New("want " + words)
	}
	show := func(k kind) string { return string(k) }
	return &cli.GenericFlag{
		Name:        "what",
		Usage:       "take it for a `KIND`: " + words,
		DefaultText: "by its name",
		Value:       &value[kind]{to, parse, show},
		Action: func(c *cli.Context, _ any) error {
			if *to != kindHelp {
				return nil
			}
			return printKinds(c.App.Writer, kinds)
		},
	}
}

// printKinds prints a kind on each line, which is all that is done then.
func printKinds(w io.Writer, kinds []kind) error {
	for _, k := range kinds {
		if _, err := fmt.Fprintln(w, k); err != nil {
			return err
		}
	}
	return errHelped
}

// joinKinds is "a, b or c".
func joinKinds(kinds []kind) string {
	var b strings.Builder
	for i, k := range kinds {
		switch {
		case i == 0:
		case i == len(kinds)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(k))
	}
	return b.String()
}

// kindOf tells by its name, or by being a folder, what is at a location.
func kindOf(location string) kind {
	if st, err := os.Stat(location); err == nil && st.IsDir() {
		return folderKind
	}
	return kindByName(location)
}

func kindByName(location string) kind {
	switch {
	case hasEnding(location, ".catar"):
		return archiveKind
	case hasEnding(location, ".caidx"):
		return archiveIndex
	case hasEnding(location, ".caibx"):
		return blobIndex
	}
	return unknownKind
}

// hasEnding reports whether the file at a path or URL is named so.
func hasEnding(location, ending string) bool {
	path, _, _ := strings.Cut(location, "?")
	return strings.HasSuffix(path, ending) || strings.HasSuffix(location, ending)
}

// kindOfIndex tells what an index is of. Only archives keep something of their
// entries.
func kindOfIndex(x *index.Index) kind {
	if x.Flags&feature.All != 0 {
		return archiveIndex
	}
	return blobIndex
}

// refuseTree keeps a tree from being taken for a disk: its chunks make up an
// archive.
func refuseTree(location string) error {
	if k := kindOf(location); k == archiveKind || k == archiveIndex {
		return fmt.Errorf("%s: holds a tree, not a disk image", location)
	}
	return nil
}

// headBytes is how much of a file tells an archive: its first record.
const headBytes = 64

// sniff tells an archive on standard input from anything else, by its first
// bytes, which are read again later.
func (s *streams) sniff() (kind, error) {
	head := make([]byte, headBytes)
	if f, ok := s.in.(*os.File); ok {
		at, err := f.Seek(0, io.SeekCurrent)
		if err == nil { // not a pipe
			n, err := f.ReadAt(head, at)
			if err != nil && err != io.EOF {
				return "", err
			}
			return kindOfHead(head[:n]), nil
		}
	}
	b := bufio.NewReader(s.in)
	head, err := b.Peek(headBytes)
	if err != nil && err != io.EOF {
		return "", err
	}
	s.in = b
	return kindOfHead(head), nil
}

// kindOfHead recognizes the beginning of an archive.
func kindOfHead(head []byte) kind {
	_, _, err := catar.ParseHead(head, 0, math.MaxInt64, 0)
	var short *catar.ShortError
	if len(head) == headBytes && (err == nil || errors.As(err, &short)) {
		return archiveKind
	}
	return unknownKind
}
