package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/image"
	"caravel/index"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/open"
)

type chopOptions struct {
	source   sourceOptions // its store is written to
	form     store.Form
	noSync   bool
	progress progress.Mode
	log      logOptions
	json     bool
	ignoring
}

func chopCommand() *cli.Command {
	var opt chopOptions
	storeFlag := newList("store", "put chunks into `STORE`, a path or URL (default: the one beside INDEX)", &opt.source.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "chop",
		Category:  stores,
		Usage:     "store the chunks of a disk image whose index is there",
		ArgsUsage: "INDEX FILE",
		Description: `Takes the chunks that INDEX names (a path, a URL, or "-" for standard input) out of
FILE, which holds its image: of a .caibx the disk, of a .caidx the .catar. Those that the
store lacks are put into it. Nothing is cut: that was done when INDEX was made, maybe
elsewhere. Each chunk is compared with its ID, and a FILE that holds anything else is
refused; behind the end of the image it may hold more.

` + examples(
			"caravel chop -s /srv/default.castr disk.caibx disk.img",
			"# only what the last version did not have",
			"caravel chop --ignore=v1.caibx -s s3+https://host/bucket/default.castr v2.caibx /dev/vg/root",
		),
		Flags: slices.Concat([]cli.Flag{
			storeFlag,
			compressionFlag(&opt.form),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", Value: workersValue(&opt.source.workers)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, opt.ignoring.flags(), encryptionFlags(&opt.source.crypt), indexFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() != 2:
				return usagef("want an INDEX and the FILE that it is the index of, not %d arguments", c.NArg())
			case len(opt.source.stores) > 1:
				return usagef("want one store to put chunks into, not %d", len(opt.source.stores))
			}
			return chopImage(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// chopImage stores the chunks of a file.
func chopImage(ctx context.Context, std streams, in, file string, opt chopOptions) error {
	shown := progress.New(std.err, opt.progress, "chop "+file, 0)
	got, err := opt.chop(ctx, std, in, file, shown)
	shown.Done(err)
	return printCopied(std.out, opt.json, got, err)
}

func (o chopOptions) chop(ctx context.Context, std streams, in, file string, shown *progress.Progress) (got image.Copied, err error) {
	log := o.log.logger(shown)
	from, err := newOpener(std, o.source, log)
	if err != nil {
		return got, err
	}
	defer from.Close()
	x, err := from.index(ctx, in)
	if err != nil {
		return got, err
	}
	f, err := openWhole(file, x)
	if err != nil {
		return got, err
	}
	defer f.Close()
	known, err := o.ignored(ctx, from)
	if err != nil {
		return got, err
	}
	to := open.DefaultStore(in)
	if len(o.source.stores) > 0 {
		to = o.source.stores[0]
	}
	dst, _, err := from.target(ctx, to, o.form, encryptionOptions{})
	if err != nil {
		return got, err
	}
	if o.noSync {
		dst = unsynced{dst}
	}
	wants := image.Distinct(x, known)
	shown.Total(plainBytes(wants))
	got, err = image.Copy(ctx, dst, image.InFile(f, file, x), wants, image.CopyOptions{InFlight: o.source.workers, Progress: shown.Counter()})
	if err == nil && o.log.verbose {
		log.Info("stored", "chunks", got.Copied, "present", got.Present, "bytes", got.Bytes, "store", redact.URL(to))
	}
	return got, err
}

// openWhole opens a file that holds an image: of a tree, its archive.
func openWhole(path string, x *index.Index) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		f.Close()
		return nil, fmt.Errorf("%s: is a directory; caravel make and caravel digest work on those", path)
	}
	size, err := f.Seek(0, io.SeekEnd) // of a device, too
	if err == nil && size < x.Size() {
		err = fmt.Errorf("%s: %d bytes, the image has %d", path, size, x.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// plainBytes are those of chunks.
func plainBytes(wants []store.Want) (n int64) {
	for _, w := range wants {
		n += int64(w.Size)
	}
	return n
}
