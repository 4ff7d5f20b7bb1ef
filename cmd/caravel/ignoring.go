package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
)

// ignoring says which chunks are left out of a copy.
type ignoring struct {
	indexes []string
	chunks  []string // files of IDs
}

func (o *ignoring) flags() []cli.Flag {
	return []cli.Flag{
		newList("ignore", "leave out the chunks of `INDEX`; may be repeated", &o.indexes),
		newList("ignore-chunks", "leave out the chunks whose IDs are the lines of `FILE`; may be repeated", &o.chunks),
	}
}

// ignored are the chunks that are not to be copied.
func (o ignoring) ignored(ctx context.Context, from *opener) (map[chunker.ID]bool, error) {
	known := map[chunker.ID]bool{}
	for _, in := range o.indexes {
		x, err := from.index(ctx, in)
		if err != nil {
			return nil, err
		}
		image.Distinct(x, known)
	}
	for _, path := range o.chunks {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--ignore-chunks: %w", err)
		}
		err = readIDs(f, known)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("--ignore-chunks: %s: %w", path, err)
		}
	}
	return known, nil
}

// readIDs reads a chunk's ID from each line that is not empty.
func readIDs(r io.Reader, into map[chunker.ID]bool) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		id, err := chunker.ParseID(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		into[id] = true
	}
	return lines.Err()
}
