package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/store"
	"caravel/store/open"
)

type prepareOptions struct {
	makeOptions // what make has of them, of a blob
	digest      chunker.Digest
}

func prepareCommand() *cli.Command {
	opt := prepareOptions{makeOptions: makeOptions{params: chunker.DefaultParams(), form: store.Form{Either: true}, timeout: 60 * time.Second}}
	storeFlag := newList("store", "put chunks into `STORE`", &opt.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "prepare",
		Category:  stores,
		Usage:     "put a file into a store, of which one digest is all that has to be known",
		ArgsUsage: "[FILE]",
		Description: `Cuts FILE (a file, a block device, a pipe, or standard input) into chunks, puts them
into a store (default: default.castr here), and its index there as a chunk, too. Prints
the ID of that, with which caravel pull has the file again, verified: there is no other
file to pass on, and nobody can exchange it. caravel gc takes such IDs in the place of
indexes; until one is named there, nothing in the store says that the image is in use.

` + examples(
			"caravel prepare < disk.img",
			"caravel prepare -s s3+https://host/bucket/default.castr disk.img",
		),
		Flags: slices.Concat([]cli.Flag{
			storeFlag,
			compressionFlag(&opt.form),
			&cli.GenericFlag{Name: "digest", Usage: "digest by `ALGORITHM`: sha512-256 or sha256", Value: digestValue(&opt.digest)},
			newSwitch("check-existing", "read the chunks that the store has and rewrite damaged ones", &opt.checkExisting),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", DefaultText: "one a core", Value: workersValue(&opt.workers)},
			writeTimeoutFlag(&opt.timeout),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, encryptionFlags(&opt.crypt), chunkSizeFlags(&opt.params), reachFlags(&opt.reach), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			std := streamsOf(c)
			switch {
			case c.NArg() > 1 || c.NArg() == 0 && !std.fed():
				return usagef("want FILE, not %d arguments", c.NArg())
			case len(opt.stores) > 1:
				return usagef("want one --store to put chunks into, not %d", len(opt.stores))
			}
			if err := opt.params.Cuttable(); err != nil {
				return usagef("%v", err)
			}
			opt.formSaid = c.IsSet("compression")
			return prepare(c.Context, std, argument(c, 0, "-"), opt)
		},
	}
}

// A preparedReport is what prepare prints as JSON.
type preparedReport struct {
	Digest chunker.ID `json:"digest"`
	Size   int64      `json:"size"`
	Chunks int        `json:"chunks"`
	Stored int64      `json:"stored"`
	Reused int64      `json:"reused"`
}

// prepare puts a file into a store.
func prepare(ctx context.Context, std streams, in string, opt prepareOptions) error {
	shown := progress.New(std.err, opt.progress, "prepare "+in, 0)
	p, err := opt.prepare(ctx, std, in, shown)
	shown.Done(err)
	switch {
	case err != nil:
		return err
	case opt.json:
		return json.NewEncoder(std.out).Encode(preparedReport{p.Root, p.Index.Size(), p.Index.Len(), p.Stored, p.Reused})
	}
	_, err = fmt.Fprintln(std.out, p.Root)
	return err
}

func (o prepareOptions) prepare(ctx context.Context, std streams, in string, shown *progress.Progress) (*image.Prepared, error) {
	log := o.log.logger(shown)
	var err error
	if o.form, err = o.crypt.form(ctx, o.form, std.err, log); err != nil {
		return nil, err
	}
	where, err := o.where(std.in, log)
	if err != nil {
		return nil, err
	}
	place := defaultStoreHere()
	if len(o.stores) > 0 {
		place = o.stores[0]
	}
	dst, err := writer(place, where, log)
	if err != nil {
		return nil, err
	}
	if o.noSync {
		dst = unsynced{dst}
	}
	src, err := openSource(ctx, std, in, image.SourceOptions{})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	shown.Total(max(src.Size, 0))
	return image.Prepare(ctx, src, dst, image.MakeOptions{
		Interrupt:     func() { src.Close() },
		Params:        o.params,
		Digest:        o.digest,
		Workers:       o.workers,
		CheckExisting: o.checkExisting,
		Progress:      shown.Counter(),
	})
}

// defaultStoreHere is the store of prepared images if none is named.
func defaultStoreHere() string { return open.DefaultStore("image") }
