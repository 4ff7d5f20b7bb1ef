package main

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

type copyOptions struct {
	source   sourceOptions
	to       string // the store; "": beside the index
	form     store.Form
	target   encryptionOptions
	noSync   bool
	progress progress.Mode
	log      logOptions
	json     bool
}

func copyCommand() *cli.Command {
	var opt copyOptions
	return &cli.Command{
		Name:      "copy",
		Category:  stores,
		Usage:     "copy an image: its index, what lies beside that, and its chunks",
		ArgsUsage: "INDEX OUT",
		Description: `Copies INDEX (a .caibx or .caidx, a path or URL) to OUT, a path or URL, too; where
that ends in "/", under the same name. The chunks that it names, and no others, are
copied from the stores of --store, or the one beside INDEX, to default.castr beside
OUT, or the store of --target-store, unless they are there: verified, and packed and
encrypted as that store is to have them. The sidecar and the profile of INDEX come
along, but into a place that is to be encrypted while INDEX's is not. The index comes
last, when all is there that it needs.

` + examples(
			"caravel copy http://host/images/disk.caibx /media/stick/",
			"caravel copy -s /srv/pool.castr /srv/v2.caidx s3+https://host/bucket/v2.caidx",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "target-store", Usage: "put chunks into `STORE`", DefaultText: "default.castr beside OUT", Destination: &opt.to},
			compressionFlag(&opt.form),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, targetEncryptionFlags(&opt.target), sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			switch in, out := c.Args().Get(0), c.Args().Get(1); {
			case c.NArg() != 2:
				return usagef("want an INDEX and where to copy it, not %d arguments", c.NArg())
			case in == "-" || out == "-":
				return usagef("an image is copied from a path or URL to another; caravel cache reads an index from standard input")
			}
			return copyImage(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// copyImage copies an image.
func copyImage(ctx context.Context, std streams, in, out string, opt copyOptions) error {
	shown := progress.New(std.err, opt.progress, "copy "+redact.URL(in), 0)
	got, err := opt.copy(ctx, std, in, out, shown)
	shown.Done(err)
	return printCopied(std.out, opt.json, got, err)
}

func (o copyOptions) copy(ctx context.Context, std streams, in, out string, shown *progress.Progress) (got image.Copied, err error) {
	if strings.HasSuffix(out, "/") {
		out = open.Beside(out, nameOf(in))
	}
	if err := canPutAt(out); err != nil {
		return got, err
	}
	log := o.log.logger(shown)
	from, err := newOpener(std, o.source, log)
	if err != nil {
		return got, err
	}
	defer from.Close()
	to := o.to
	if to == "" {
		to = open.DefaultStore(out)
	}
	dst, key, err := from.target(ctx, to, o.form, o.target)
	if err != nil {
		return got, err
	}
	if o.noSync {
		dst = unsynced{dst}
	}
	img, err := from.image(ctx, in, reading{sides: besides, once: true})
	if err != nil {
		return got, err
	}
	wants := image.Distinct(img.Index, map[chunker.ID]bool{})
	shown.Total(plainBytes(wants))
	got, err = image.Copy(ctx, dst, img.store, wants, image.CopyOptions{InFlight: o.source.workers, Progress: shown.Counter()})
	if err != nil {
		return got, within(in, err)
	}
	var index bytes.Buffer
	if _, err := img.Index.WriteTo(&index); err != nil {
		return got, err
	}
	put := func(location string, content []byte) error {
		return putAt(ctx, location, content, local.Options{Mode: 0o666, Sync: !o.noSync}, from.where)
	}
	if open.HasSides(out) && (img.key != nil || key == nil) { // else it would tell what is encrypted now
		if err := copySides(ctx, img, out, put); err != nil {
			return got, err
		}
	}
	if o.log.verbose {
		log.Info("copied", "chunks", got.Copied, "present", got.Present, "bytes", got.Bytes, "store", redact.URL(to))
	}
	return got, put(out, index.Bytes())
}

// besides are the endings of what may lie beside an index.
var besides = []string{treeSuffix, profileSuffix}

// copySides copies what lies beside the index.
func copySides(ctx context.Context, img *openedImage, out string, put func(location string, content []byte) error) error {
	for _, ending := range besides {
		content, err := img.Side(ctx, ending)
		if errors.Is(err, store.ErrMissing) {
			continue
		}
		if err == nil {
			err = put(open.Beside(out, ending), content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nameOf is the name of the file at a location.
func nameOf(location string) string {
	location, _, _ = strings.Cut(location, "?")
	if _, file, far := strings.Cut(location, ":"); far && !strings.Contains(location, "/") {
		return file
	}
	return path.Base(location)
}
