package main

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/image"
	"caravel/internal/notify"
	"caravel/internal/progress"
)

type extractOptions struct {
	source   sourceOptions
	inPlace  bool
	holes    bool
	noSync   bool
	progress progress.Mode
	log      logOptions
	json     bool
}

func extractCommand() *cli.Command {
	opt := extractOptions{holes: true}
	return &cli.Command{
		Name:      "extract",
		Category:  images,
		Usage:     "write a whole image to a file, a block device or a pipe",
		ArgsUsage: "INDEX [FILE]",
		Description: `Writes the image of INDEX (a path, a URL, "-" for standard input) to FILE, or to
standard output ("-"). Every chunk is verified before it is written. A file gets
its name when it is complete and on disk; until then what is done lies beside it
under another name, and the next run goes on from there. A block device is
written in place, after its size was checked.

` + examples(
			"caravel extract http://host/disk.caibx disk.img",
			"caravel extract --store=/srv/pool.castr disk.caibx /dev/vg/root",
			"caravel extract http://host/disk.caibx - | gzip > disk.img.gz",
			"# fetch only what differs from what disk.img holds",
			"caravel extract --in-place http://host/disk-v2.caibx disk.img",
		),
		Flags: slices.Concat([]cli.Flag{
			newSwitch("in-place", "write into FILE itself and keep what is right in it", &opt.inPlace, "k"),
			newSwitch("punch-holes", "leave holes where the image has zeros", &opt.holes),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return usagef("want INDEX and perhaps FILE, not %d arguments", c.NArg())
			}
			if err := refuseTree(c.Args().First()); err != nil {
				return err
			}
			return extract(c.Context, streamsOf(c), c.Args().First(), argument(c, 1, "-"), opt)
		},
	}
}

func extract(ctx context.Context, std streams, in, out string, opt extractOptions) error {
	p := progress.New(std.err, opt.progress, "extract "+in, 0)
	got, err := extractShown(ctx, std, in, out, opt, p)
	p.Done(err)
	if err != nil {
		return err
	}
	to := std.out
	if out == "-" {
		to = std.err
	}
	if opt.json {
		return json.NewEncoder(to).Encode(struct {
			Kept    int64 `json:"kept"`
			Holes   int64 `json:"holes"`
			Fetched int64 `json:"fetched"`
		}{got.Kept, got.Holes, got.Fetched})
	}
	return nil
}

func extractShown(ctx context.Context, std streams, in, out string, opt extractOptions, p *progress.Progress) (image.Extracted, error) {
	from := newOpener(std, opt.source, opt.log.logger(p))
	defer from.Close()
	img, err := from.image(ctx, in)
	if err != nil {
		return image.Extracted{}, err
	}
	p.Total(img.index.Size())
	_ = notify.Send(notify.Ready) // nobody need listen
	if out == "-" {
		err := image.Stream(ctx, img.index, img.store, std.out, 0, img.index.Size(), image.StreamOptions{
			InFlight: opt.source.workers,
			Progress: p.Counter(),
		})
		return image.Extracted{Fetched: img.index.Size()}, err
	}
	return image.Extract(ctx, img.index, img.store, out, image.ExtractOptions{
		InPlace:  opt.inPlace,
		Fill:     !opt.holes,
		NoSync:   opt.noSync,
		InFlight: opt.source.workers,
		Progress: p.Counter(),
	})
}
