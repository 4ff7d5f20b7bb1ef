package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/image"
	"caravel/store/local"
)

type catOptions struct {
	source sourceOptions
	offset int64
	length int64
	log    logOptions
}

func catCommand() *cli.Command {
	var opt catOptions
	return &cli.Command{
		Name:      "cat",
		Category:  images,
		Usage:     "print an image or a part of it",
		ArgsUsage: "INDEX [FILE]",
		Description: `Writes the bytes of an image to standard output or FILE. Only the chunks that
hold them are fetched, and for a part of an image no more of a large index behind a
network is waited for than what says which these are, as far as it is not pinned.
The rest of it comes meanwhile if chunks are kept, as none is on the word of an index
that has not come to its end.

` + examples(
			"caravel cat http://host/disk.caibx > disk.img",
			"# the superblock of an ext4 file system",
			"caravel cat --offset 1K --length 1K http://host/disk.caibx | hexdump -C",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.GenericFlag{Name: "offset", Aliases: []string{"o"}, Usage: "begin at byte `N`", Value: sizeValue(&opt.offset)},
			&cli.GenericFlag{Name: "length", Aliases: []string{"l"}, Usage: "print `N` bytes; 0: to the end", Value: sizeValue(&opt.length)},
		}, sourceFlags(&opt.source), longLogFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return usagef("want INDEX and perhaps FILE, not %d arguments", c.NArg())
			}
			std := streamsOf(c)
			if out := argument(c, 1, "-"); out != "-" {
				return catTo(c.Context, std, c.Args().First(), out, opt)
			}
			return catImage(c.Context, std, c.Args().First(), opt)
		},
	}
}

// catTo prints into a file, a pipe or a device.
func catTo(ctx context.Context, std streams, in, out string, opt catOptions) error {
	return putPrinted(ctx, out, local.Options{Sync: true}, func(w io.Writer) error {
		std.out = w
		return catImage(ctx, std, in, opt)
	})
}

// catImage prints what there is of the range. As in desync, a length that goes
// beyond the end is an error, after the bytes that there are. Of a large index, a
// part is enough for a part of the image.
func catImage(ctx context.Context, std streams, in string, opt catOptions) error {
	from, err := newOpener(std, opt.source, opt.log.logger(std.err))
	if err != nil {
		return err
	}
	defer from.Close()
	whole := opt.offset == 0 && opt.length == 0
	img, err := from.image(ctx, in, reading{once: whole, partial: !whole})
	if err != nil {
		return err
	}
	defer img.fillMeanwhile(ctx)()
	size := img.Table.Size()
	if opt.offset > size {
		return fmt.Errorf("%s: offset %d is behind the end, at %d", in, opt.offset, size)
	}
	n := size - opt.offset
	if opt.length > 0 {
		n = min(n, opt.length)
	}
	err = image.Stream(ctx, img.Table, img.store, std.out, opt.offset, n, image.StreamOptions{InFlight: opt.source.workers})
	if err == nil && n < opt.length {
		err = fmt.Errorf("%s: the image ends at %d, %d bytes before what was asked for", in, size, opt.length-n)
	}
	return err
}
