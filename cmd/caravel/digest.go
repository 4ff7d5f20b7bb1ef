package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
)

type digestOptions struct {
	source sourceOptions
	digest chunker.Digest
	what   string
	log    logOptions
}

func digestCommand() *cli.Command {
	var opt digestOptions
	return &cli.Command{
		Name:      "digest",
		Category:  images,
		Usage:     "print the digest of an image, a file or a block device",
		ArgsUsage: "INDEX|FILE",
		Description: `Prints what make prints. For a .caibx the chunks are fetched and the image is
put together and digested; any other file is digested as it is. The algorithm is
the one that the index names.

` + examples(
			"caravel digest disk.img",
			"caravel digest http://host/disk.caibx",
			"caravel digest --digest=sha256 disk.img",
		),
		Flags: append(append([]cli.Flag{
			&cli.GenericFlag{Name: "digest", Usage: "digest a plain file by `ALGORITHM`: sha512-256 or sha256", Value: digestValue(&opt.digest)},
			&cli.StringFlag{Name: "what", Usage: "take the argument for a `KIND`: blob or blob-index", DefaultText: "by its name", Destination: &opt.what},
		}, sourceFlags(&opt.source)...), logFlags(&opt.log)...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("want INDEX or FILE, not %d arguments", c.NArg())
			}
			isIndex, err := isIndex(c.Args().First(), opt.what)
			if err != nil {
				return err
			}
			sum := digestFile
			if isIndex {
				sum = digestImage
			}
			id, err := sum(c.Context, streamsOf(c), c.Args().First(), opt)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, id)
			return err
		},
	}
}

// isIndex tells the index of an image from a plain file, by what the user said
// or else by the name. What has a URL is an index: plain files are read where
// they lie.
func isIndex(location, what string) (bool, error) {
	switch what {
	case "":
		return hasEnding(location, ".caibx") || hasEnding(location, ".caidx") || strings.Contains(location, "://"), nil
	case "blob":
		return false, nil
	case "blob-index":
		return true, nil
	}
	return false, usagef("--what=%s: want blob or blob-index", what)
}

func digestImage(ctx context.Context, std streams, in string, opt digestOptions) (chunker.ID, error) {
	from := newOpener(std, opt.source, opt.log.logger(std.err))
	defer from.Close()
	img, err := from.image(ctx, in)
	if err != nil {
		return chunker.ID{}, err
	}
	h := img.index.Digest().New()
	err = image.Stream(ctx, img.index, img.store, h, 0, img.index.Size(), image.StreamOptions{InFlight: opt.source.workers})
	return chunker.ID(h.Sum(nil)), err
}

func digestFile(ctx context.Context, std streams, in string, opt digestOptions) (chunker.ID, error) {
	src, err := openSource(ctx, std, in)
	if err != nil {
		return chunker.ID{}, err
	}
	defer src.Close()
	h := opt.digest.New()
	if _, err := io.CopyBuffer(h, src, make([]byte, 1<<20)); err != nil {
		return chunker.ID{}, cmp.Or(context.Cause(ctx), err)
	}
	return chunker.ID(h.Sum(nil)), nil
}

// hasEnding reports whether the file at a path or URL is named so.
func hasEnding(location, ending string) bool {
	path, _, _ := strings.Cut(location, "?")
	return strings.HasSuffix(path, ending) || strings.HasSuffix(location, ending)
}

// refuseTree keeps a tree from being taken for a disk: its chunks make up an
// archive.
func refuseTree(location string) error {
	if hasEnding(location, ".caidx") || hasEnding(location, ".catar") {
		return fmt.Errorf("%s: holds a tree, not a disk image", location)
	}
	return nil
}
