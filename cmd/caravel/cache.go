package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
)

type cacheOptions struct {
	source sourceOptions // its cache is what is written to
	form   store.Form
	target encryptionOptions
	ignoring
	progress progress.Mode
	log      logOptions
	json     bool
}

func cacheCommand() *cli.Command {
	var opt cacheOptions
	return &cli.Command{
		Name:      "cache",
		Category:  stores,
		Usage:     "copy the chunks of images into a store",
		ArgsUsage: "INDEX...",
		Description: `Copies the chunks of each INDEX (a .caibx or .caidx: a path, a URL, or "-" for
standard input) from the stores of --store, or the one beside the index, into the
store of --cache, unless they are there. They are verified, and packed and
encrypted as that store is to have them; those that come in its form are copied as
they are.

` + examples(
			"caravel cache -s http://host/default.castr -c /srv/near.castr http://host/disk.caibx",
			"# what the next version needs beyond this one",
			"caravel cache --ignore=v1.caibx -c /media/stick/delta.castr v2.caibx",
			"# another key",
			"caravel cache --encryption-key-file=old --target-encryption-key-file=new -s a.castr -c b.castr disk.caibx",
		),
		Flags: slices.Concat([]cli.Flag{
			compressionFlag(&opt.form),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, opt.ignoring.flags(), targetEncryptionFlags(&opt.target), sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 0:
				return usagef("name the INDEX of an image")
			case opt.source.cache == "":
				return usagef("name the store to copy into with --cache")
			}
			return cacheImages(c.Context, streamsOf(c), c.Args().Slice(), opt)
		},
	}
}

// A copiedReport is what commands that copy chunks print as JSON.
type copiedReport struct {
	Copied  int64 `json:"copied"`
	Present int64 `json:"present"`
	Bytes   int64 `json:"bytes"` // plain, of what was copied
}

// printCopied ends a command that has copied chunks, or not: err is its error.
func printCopied(w io.Writer, asJSON bool, got image.Copied, err error) error {
	if err != nil || !asJSON {
		return err
	}
	return json.NewEncoder(w).Encode(copiedReport(got))
}

// cacheImages copies the chunks of images into the store of --cache.
func cacheImages(ctx context.Context, std streams, indexes []string, opt cacheOptions) error {
	target := opt.source.cache
	opt.source.cache = "" // chunks come from elsewhere
	shown := progress.New(std.err, opt.progress, "cache", 0)
	got, err := cacheInto(ctx, std, target, indexes, opt, shown)
	shown.Done(err)
	return printCopied(std.out, opt.json, got, err)
}

func cacheInto(ctx context.Context, std streams, target string, indexes []string, opt cacheOptions, shown *progress.Progress) (got image.Copied, err error) {
	log := opt.log.logger(shown)
	from, err := newOpener(std, opt.source, log)
	if err != nil {
		return got, err
	}
	defer from.Close()
	dst, _, err := from.target(ctx, target, opt.form, opt.target)
	if err != nil {
		return got, err
	}
	known, err := opt.ignored(ctx, from)
	if err != nil {
		return got, err
	}
	images, wants, total := make([]*openedImage, len(indexes)), make([][]store.Want, len(indexes)), int64(0)
	for i, in := range indexes {
		if images[i], err = from.image(ctx, in, reading{once: true}); err != nil {
			return got, err
		}
		wants[i] = image.Distinct(images[i].Index, known)
		total += plainBytes(wants[i])
	}
	shown.Total(total)
	for i, img := range images {
		n, err := image.Copy(ctx, dst, img.store, wants[i], image.CopyOptions{InFlight: opt.source.workers, Progress: shown.Counter()})
		got.Copied, got.Present, got.Bytes = got.Copied+n.Copied, got.Present+n.Present, got.Bytes+n.Bytes
		if err != nil {
			return got, within(indexes[i], err)
		}
	}
	if opt.log.verbose {
		log.Info("copied", "chunks", got.Copied, "present", got.Present, "bytes", got.Bytes, "store", redact.URL(target))
	}
	return got, nil
}
