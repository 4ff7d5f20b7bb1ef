package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/open"
)

type cacheOptions struct {
	source        sourceOptions // its cache is what is written to
	form          store.Form
	target        encryptionOptions
	ignoreIndexes []string
	ignoreChunks  []string
	progress      progress.Mode
	log           logOptions
	json          bool
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
			newList("ignore", "leave out the chunks of `INDEX`; may be repeated", &opt.ignoreIndexes),
			newList("ignore-chunks", "leave out the chunks whose IDs are the lines of `FILE`; may be repeated", &opt.ignoreChunks),
			&cli.GenericFlag{Name: "compression", Usage: "pack chunks by `HOW`: zstd, xz, gzip, each with :LEVEL if wanted, or none", Value: compressionValue(&opt.form)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, targetEncryptionFlags(&opt.target), sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
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

// A cachedReport is what cache prints as JSON.
type cachedReport struct {
	Copied  int64 `json:"copied"`
	Present int64 `json:"present"`
	Bytes   int64 `json:"bytes"` // plain, of what was copied
}

// cacheImages copies the chunks of images into the store of --cache.
func cacheImages(ctx context.Context, std streams, indexes []string, opt cacheOptions) error {
	target := opt.source.cache
	opt.source.cache = "" // chunks come from elsewhere
	shown := progress.New(std.err, opt.progress, "cache", 0)
	got, err := cacheInto(ctx, std, target, indexes, opt, shown)
	shown.Done(err)
	if err != nil || !opt.json {
		return err
	}
	return json.NewEncoder(std.out).Encode(cachedReport(got))
}

func cacheInto(ctx context.Context, std streams, target string, indexes []string, opt cacheOptions, shown *progress.Progress) (got image.Copied, err error) {
	log := opt.log.logger(shown)
	from, err := newOpener(std, opt.source, log)
	if err != nil {
		return got, err
	}
	defer from.Close()
	if err := from.unlock(ctx); err != nil {
		return got, err
	}
	where := from.where
	where.Wrap = nil
	key := where.Form.Key
	if where.Form, err = opt.target.form(ctx, opt.form, std.err, log); err != nil {
		return got, err
	}
	if !opt.target.said() {
		where.Form.Key = key
	}
	dst, err := open.Writer(target, where)
	if err != nil {
		return got, err
	}
	if open.Remote(target) {
		dst = store.RetryWriter(dst, where.Timeout, log)
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
		for _, w := range wants[i] {
			total += int64(w.Size)
		}
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

// ignored are the chunks that are not to be copied.
func (o cacheOptions) ignored(ctx context.Context, from *opener) (map[chunker.ID]bool, error) {
	known := map[chunker.ID]bool{}
	for _, in := range o.ignoreIndexes {
		x, err := from.index(ctx, in)
		if err != nil {
			return nil, err
		}
		image.Distinct(x, known)
	}
	for _, path := range o.ignoreChunks {
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
