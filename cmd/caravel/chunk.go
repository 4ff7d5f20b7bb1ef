package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/index"
	"caravel/internal/progress"
)

type chunkOptions struct {
	params   chunker.Params
	digest   chunker.Digest
	start    int64
	workers  int
	progress progress.Mode
	log      logOptions
	json     bool
}

func chunkCommand() *cli.Command {
	opt := chunkOptions{params: chunker.DefaultParams()}
	return &cli.Command{
		Name:      "chunk",
		Category:  stores,
		Usage:     "print the chunks that a file would be cut into",
		ArgsUsage: "FILE",
		Description: `Prints a line for each chunk that FILE (a file, a block device, a pipe, or "-" for
standard input) would be cut into: where it begins, its size, and its ID. Nothing is
written; it helps to choose the sizes of chunks. With --start FILE is cut as if it began
there; the offsets are those in FILE.

` + examples(
			"caravel chunk disk.img",
			"# how many chunks two versions have in common, if they are larger",
			"comm -12 <(caravel chunk -m 64:256:1024 v1.img | cut -f3 | sort) <(caravel chunk -m 64:256:1024 v2.img | cut -f3 | sort) | wc -l",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.GenericFlag{Name: "start", Aliases: []string{"S"}, Usage: "begin at byte `N`", Value: sizeValue(&opt.start)},
			&cli.GenericFlag{Name: "digest", Usage: "digest by `ALGORITHM`: sha512-256 or sha256", Value: digestValue(&opt.digest)},
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", DefaultText: "one a core", Value: workersValue(&opt.workers)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, chunkSizeFlags(&opt.params), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("want FILE, not %d arguments", c.NArg())
			}
			if err := opt.params.Cuttable(); err != nil {
				return usagef("%v", err)
			}
			return chunkFile(c.Context, streamsOf(c), c.Args().First(), opt)
		},
	}
}

// chunkFile prints the chunks of a file.
func chunkFile(ctx context.Context, std streams, in string, opt chunkOptions) error {
	shown := progress.New(std.err, opt.progress, "chunk "+in, 0)
	x, err := opt.cut(ctx, std, in, shown)
	shown.Done(err)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(std.out, 64<<10)
	for i := range x.Len() {
		c := x.Chunk(i)
		c.Start += opt.start
		if opt.json {
			err = printChunk(w, c)
		} else {
			_, err = fmt.Fprintf(w, "%d\t%d\t%s\n", c.Start, c.Size, c.ID)
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

func (o chunkOptions) cut(ctx context.Context, std streams, in string, shown *progress.Progress) (*index.Index, error) {
	src, err := openSource(ctx, std, in, image.SourceOptions{})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := src.Skip(o.start); err != nil {
		return nil, err
	}
	shown.Total(max(src.Size, 0))
	made, err := image.Make(ctx, src, nil, image.MakeOptions{
		Params:   o.params,
		Digest:   o.digest,
		Flags:    feature.Blob(o.digest),
		Workers:  o.workers,
		Progress: shown.Counter(),
	})
	if err != nil {
		return nil, err
	}
	return made.Index, nil
}
