package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/image"
	"caravel/internal/notify"
	"caravel/internal/progress"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

type makeOptions struct {
	what          string
	stores        []string
	noStore       bool
	params        chunker.Params
	digest        chunker.Digest
	form          store.Form
	checkExisting bool
	noSync        bool
	workers       int
	progress      progress.Mode
	log           logOptions
	json          bool
}

func makeCommand() *cli.Command {
	opt := makeOptions{params: chunker.DefaultParams(), form: store.Form{Either: true}}
	storeFlag := newList("store", "put chunks into `STORE`", &opt.stores, "s")
	storeFlag.EnvVars = []string{"CASYNC_STORE"}
	return &cli.Command{
		Name:      "make",
		Category:  images,
		Usage:     "cut a disk image into chunks",
		ArgsUsage: "[INDEX [FILE]]",
		Description: `Cuts FILE (a file, a block device, a pipe, "-" for standard input) into chunks
and writes the list of them to INDEX, a .caibx ("-" for standard output). The
chunks go into the store, default.castr beside the index if none is named. A
block device ends where its file system does. Prints the image's digest.

` + examples(
			"caravel make disk.caibx disk.img",
			"caravel make --store=/srv/www/pool.castr /srv/www/disk.caibx /dev/vg/root",
			"zcat disk.img.gz | caravel make disk.caibx -",
			"# what the index would be, without storing anything",
			"caravel make --no-store - disk.img | sha256sum",
		),
		Flags: append(append([]cli.Flag{
			storeFlag,
			newSwitch("no-store", "write the index only", &opt.noStore),
			&cli.GenericFlag{Name: "digest", Usage: "name chunks by `ALGORITHM`: sha512-256 or sha256", Value: digestValue(&opt.digest)},
			&cli.GenericFlag{Name: "compression", Usage: "pack chunks by `HOW`: zstd, xz, gzip, each with :LEVEL if wanted, or none", Value: compressionValue(&opt.form)},
			&cli.StringFlag{Name: "what", Usage: "make a `KIND`: blob-index", Destination: &opt.what},
			newSwitch("check-existing", "read the chunks that the store has and rewrite damaged ones", &opt.checkExisting),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			&cli.GenericFlag{Name: "concurrency", Aliases: []string{"n"}, Usage: "work on `N` chunks at once", DefaultText: "one a core", Value: workersValue(&opt.workers)},
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, chunkSizeFlags(&opt.params)...), logFlags(&opt.log)...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 2 {
				return usagef("want INDEX and FILE, not %d arguments", c.NArg())
			}
			out, in := argument(c, 0, "-"), c.Args().Get(1)
			if err := opt.check(out, in); err != nil {
				return err
			}
			return makeImage(c.Context, streamsOf(c), out, in, opt)
		},
	}
}

// check refuses what this command cannot make before anything is touched.
func (o makeOptions) check(out, in string) error {
	switch o.what {
	case "", "blob-index":
	default:
		return usagef("--what=%s: want blob-index", o.what)
	}
	if o.what == "" && out != "-" && !strings.HasSuffix(out, ".caibx") {
		return usagef("%s: the index of a disk image is a .caibx; other names need --what=blob-index", out)
	}
	if in == "" {
		return usagef("name the FILE to make the image of, or - for standard input")
	}
	if len(o.stores) > 1 {
		return usagef("want one --store to put chunks into, not %d", len(o.stores))
	}
	if err := o.params.Cuttable(); err != nil {
		return usagef("%v", err)
	}
	return nil
}

func makeImage(ctx context.Context, std streams, out, in string, opt makeOptions) error {
	src, err := openSource(ctx, std, in)
	if err != nil {
		return err
	}
	defer src.Close()
	putIndex, err := opt.indexPlace(std, out, src.Mode)
	if err != nil {
		return err
	}
	dst, where, err := makeStore(out, opt)
	if err != nil {
		return err
	}
	p := progress.New(std.err, opt.progress, "make "+out, max(src.Size, 0))
	log := opt.log.logger(p)
	if src.Cut != "" {
		log.Info("the device ends at its file system", "device", in, "fs", src.Cut, "size", src.Size)
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	made, err := image.Make(ctx, src, dst, image.MakeOptions{
		Params:        opt.params,
		Digest:        opt.digest,
		Workers:       opt.workers,
		CheckExisting: opt.checkExisting,
		Progress:      p.Counter(),
	})
	p.Done(err)
	if err != nil {
		return err
	}
	if size := made.Index.Size(); src.Size >= 0 && size != src.Size {
		log.Warn("the source changed its size while it was read", "source", in, "before", src.Size, "read", size)
	}
	var index bytes.Buffer
	if _, err := made.Index.WriteTo(&index); err != nil {
		return err
	}
	if opt.log.verbose {
		log.Info("made", "size", made.Index.Size(), "chunks", made.Index.Len(), "stored", made.Stored, "reused", made.Reused, "store", where)
	}
	if err := putIndex(ctx, &index); err != nil {
		return err
	}
	if out == "-" {
		return report(std.err, made, opt.json)
	}
	return report(std.out, made, opt.json)
}

// makeStore opens the store that make fills; nil with --no-store.
func makeStore(out string, opt makeOptions) (store.Writer, string, error) {
	if opt.noStore {
		return nil, "", nil
	}
	where := open.DefaultStore(out)
	if len(opt.stores) > 0 {
		where = opt.stores[0]
	}
	w, err := open.Writer(where, open.Options{Form: opt.form})
	if err == nil && opt.noSync {
		w = unsynced{w}
	}
	return w, where, err
}

// unsynced leaves out the wait for the disk.
type unsynced struct{ store.Writer }

func (unsynced) Sync(context.Context) error { return nil }

// indexPlace returns what puts the index into its place, or why it has none:
// better before the work than after it. Like casync it gives the index the
// permissions to read and write that the source has.
func (o makeOptions) indexPlace(std streams, location string, mode fs.FileMode) (put func(context.Context, *bytes.Buffer) error, err error) {
	if location == "-" {
		return func(_ context.Context, b *bytes.Buffer) error {
			_, err := b.WriteTo(std.out)
			return err
		}, nil
	}
	if mode&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0 {
		mode = 0o666 // a pipe's says nothing about what comes out of it
	}
	if mode &= 0o666; mode == 0 {
		mode = 0o666
	}
	blobs, name, err := open.Object(location, open.Options{})
	if err != nil {
		return nil, err
	}
	if dir, ok := blobs.(*local.Dir); ok {
		path := dir.Locate(name)
		return func(ctx context.Context, b *bytes.Buffer) error {
			return putFile(ctx, path, b, local.Options{Mode: mode, Sync: !o.noSync})
		}, canPut(path)
	}
	to, ok := blobs.(store.Putter)
	if !ok {
		return nil, fmt.Errorf("%s: nothing can be written there; make the index on a disk and copy it", location)
	}
	return func(ctx context.Context, b *bytes.Buffer) error {
		return to.Put(ctx, name, b, int64(b.Len()))
	}, nil
}

// report prints what casync's make prints, the digest, or more as JSON.
func report(w io.Writer, made *image.Made, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintln(w, made.Digest)
		return err
	}
	return json.NewEncoder(w).Encode(struct {
		Digest chunker.ID `json:"digest"`
		Size   int64      `json:"size"`
		Chunks int        `json:"chunks"`
		Stored int64      `json:"stored"`
		Reused int64      `json:"reused"`
	}{made.Digest, made.Index.Size(), made.Index.Len(), made.Stored, made.Reused})
}

// openSource opens the file, block device or pipe to make an image of. It is
// closed when ctx ends, so that a read that waits for a pipe ends too.
func openSource(ctx context.Context, std streams, in string) (src *image.Source, err error) {
	if stdin, ok := std.in.(*os.File); ok && in == "-" {
		src, err = image.NewSource(stdin)
	} else {
		src, err = image.OpenSource(in)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { src.Close() })
	return src, nil
}

// streams are where a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

func streamsOf(c *cli.Context) streams { return streams{c.App.Reader, c.App.Writer, c.App.ErrWriter} }

// argument is the nth argument, or what stands for it if there are fewer. One
// that is there but empty, a script's unset variable, is no reason to take
// another place.
func argument(c *cli.Context, n int, otherwise string) string {
	if n < c.NArg() {
		return c.Args().Get(n)
	}
	return otherwise
}
