package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
)

type verifyIndexOptions struct {
	source   sourceOptions // without stores
	progress progress.Mode
	log      logOptions
	json     bool
}

func verifyIndexCommand() *cli.Command {
	var opt verifyIndexOptions
	return &cli.Command{
		Name:      "verify-index",
		Category:  stores,
		Usage:     "compare a file or device with the index of an image",
		ArgsUsage: "INDEX FILE",
		Description: `Reads FILE and compares the digests of its parts with those of the chunks in INDEX (a
path, a URL, or "-" for standard input). No chunk is fetched. FILE is what the image
was made of, or was extracted to: of a .caibx a disk image or block device, of a
.caidx the .catar. A file has to be as long as the image; a device may be longer. The
exit status is 1 if anything differs.

` + examples(
			"caravel verify-index disk.caibx disk.img",
			"caravel verify-index http://host/disk.caibx /dev/vg/root && reboot",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "read `N` parts at once", Value: workersValue(&opt.source.workers)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, indexFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("want an INDEX and a FILE to compare with it, not %d arguments", c.NArg())
			}
			return verifyIndex(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// A comparedReport is what verify-index prints as JSON.
type comparedReport struct {
	Chunks int64           `json:"chunks"`          // that are the same
	Other  int64           `json:"other"`           // that are not
	First  *comparedDiffer `json:"first,omitempty"` // of these
}

type comparedDiffer struct {
	ID    chunker.ID `json:"id"`
	Start int64      `json:"start"`
	Size  int        `json:"size"`
}

// verifyIndex compares a file with an index.
func verifyIndex(ctx context.Context, std streams, in, file string, opt verifyIndexOptions) error {
	shown := progress.New(std.err, opt.progress, "verify-index "+file, 0)
	got, err := opt.compare(ctx, std, in, file, shown)
	done := err == nil
	if done && got.Other > 0 {
		err = fmt.Errorf("%s: differs from the image in %d of %d chunks, the first of them at %d: want %v there", file, got.Other, got.Other+got.Same, got.First.Start, got.First.ID)
	}
	shown.Done(err)
	if !done || !opt.json {
		return err
	}
	report := comparedReport{Chunks: got.Same, Other: got.Other}
	if got.Other > 0 {
		report.First = &comparedDiffer{got.First.ID, got.First.Start, got.First.Size}
	}
	if failed := json.NewEncoder(std.out).Encode(report); err == nil {
		err = failed
	}
	return err
}

func (o verifyIndexOptions) compare(ctx context.Context, std streams, in, file string, shown *progress.Progress) (image.Compared, error) {
	from, err := newOpener(std, o.source, o.log.logger(shown))
	if err != nil {
		return image.Compared{}, err
	}
	defer from.Close()
	x, err := from.index(ctx, in)
	if err != nil {
		return image.Compared{}, err
	}
	f, err := openWhole(file, x)
	if err != nil {
		return image.Compared{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && st.Size() != x.Size() {
		err = fmt.Errorf("%s: %d bytes, the image has %d", file, st.Size(), x.Size())
	}
	if err != nil {
		return image.Compared{}, err
	}
	shown.Total(x.Size())
	return image.Compare(ctx, f, file, x, image.CompareOptions{Workers: o.source.workers, Progress: shown.Counter()})
}
