package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/index"
)

func listChunksCommand() *cli.Command {
	var source sourceOptions
	var log logOptions
	var asJSON bool
	return &cli.Command{
		Name:      "list-chunks",
		Category:  stores,
		Usage:     "print the IDs of an image's chunks",
		ArgsUsage: "INDEX",
		Description: `Prints a line for each chunk in the image's order, repeated ones each time. No
chunk is fetched.

` + examples(
			"caravel list-chunks http://host/disk.caibx",
			"# how many bytes the image has that do not repeat",
			"caravel list-chunks --json disk.caibx | jq -s 'unique_by(.id) | map(.size) | add'",
		),
		Flags: slices.Concat([]cli.Flag{jsonFlag(&asJSON)}, indexFlags(&source), logFlags(&log), impliedFlags(), ignoredWorkers()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("want INDEX, not %d arguments", c.NArg())
			}
			return listChunks(c.Context, streamsOf(c), c.Args().First(), source, asJSON, log.logger(c.App.ErrWriter))
		},
	}
}

func listChunks(ctx context.Context, std streams, in string, source sourceOptions, asJSON bool, log *slog.Logger) error {
	from, err := newOpener(std, source, log)
	if err != nil {
		return err
	}
	defer from.Close()
	x, err := from.index(ctx, in)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(std.out, 64<<10)
	print := printID
	if asJSON {
		print = printChunk
	}
	for i := range x.Len() {
		if err := print(w, x.Chunk(i)); err != nil {
			return err
		}
	}
	return w.Flush()
}

func printID(w io.Writer, c index.Chunk) error {
	_, err := io.WriteString(w, c.ID.String()+"\n")
	return err
}

func printChunk(w io.Writer, c index.Chunk) error {
	return json.NewEncoder(w).Encode(struct {
		ID    chunker.ID `json:"id"`
		Start int64      `json:"start"`
		Size  int        `json:"size"`
	}{c.ID, c.Start, c.Size})
}
