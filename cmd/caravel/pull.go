package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/farside"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

// farOptions are those of both commands that casync's protocol is spoken with.
type farOptions struct {
	rate int64 // bytes a second; 0: any number
	log  logOptions
}

func farFlags(opt *farOptions) []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.GenericFlag{Name: "rate-limit-bps", Usage: "send no more than `N` bytes a second", Value: sizeValue(&opt.rate)},
	}, logFlags(&opt.log))
}

// farNothing stands for a file or store that is not to be used.
const farNothing = "-"

// A farPlace is what a far side is asked to serve: paths of this machine.
type farPlace struct {
	archive, index string
	stores         []string
}

// farPlaceOf reads the arguments BASE ARCHIVE INDEX STORE….
func farPlaceOf(args []string) (farPlace, error) {
	if len(args) < 4 {
		return farPlace{}, usagef("want BASE, ARCHIVE, INDEX and STORE, or - for each that is not to be used, not %d arguments", len(args))
	}
	if used(args[0]) {
		return farPlace{}, usagef("%s: there is no base in casync's protocol yet; say -", args[0])
	}
	p := farPlace{archive: herePath(args[1]), index: herePath(args[2])}
	for _, s := range args[3:] {
		p.stores = append(p.stores, herePath(s))
	}
	if p.archive == farNothing && p.index == farNothing && !slices.ContainsFunc(p.stores, used) {
		return farPlace{}, usagef("nothing to do: no archive, no index and no store is named")
	}
	return p, nil
}

// used reports whether an argument names something.
func used(arg string) bool { return arg != farNothing && arg != "" }

// herePath is a path that is not taken for a URL or a place behind another ssh.
func herePath(arg string) string {
	if !used(arg) {
		return farNothing
	}
	if filepath.IsAbs(arg) {
		return arg
	}
	return "." + string(filepath.Separator) + arg
}

func pullCommand() *cli.Command {
	var opt pullOptions
	return &cli.Command{
		Name:      "pull",
		Category:  serving,
		Usage:     "fetch what prepare has stored; or give chunks and files to the other end of an ssh",
		ArgsUsage: "DIGEST | BASE ARCHIVE INDEX STORE [STORE...]",
		Description: `With the DIGEST that caravel prepare has printed, writes that file to standard output,
or to the file of --output, which gets its name when it is complete. It comes from the
stores of --store, or the one here, and all of it is verified. An image that has an index
of its own is written by caravel extract.

With four or more arguments, speaks casync's protocol on standard input and output. Nobody types this: those who
read from host:path run it there by ssh, as casync pull, or under the name in
$CASYNC_REMOTE_PATH. Each argument is a path, or - for nothing; BASE is always -.

` + examples(
			"caravel pull -s http://host/default.castr -o disk.img 4d1f8a6b2c0e9753a86f1d2b3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60",
			"CASYNC_REMOTE_PATH=caravel casync extract host:/srv/disk.caibx disk.img",
			"caravel extract host:/srv/disk.caibx disk.img",
			"# what those run there",
			"caravel pull - - /srv/disk.caibx /srv/default.castr",
		),
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`", Value: "-", DefaultText: "standard output", Destination: &opt.out},
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, sourceFlags(&opt.source), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() == 1 {
				root, err := chunker.ParseID(c.Args().First())
				if err != nil {
					return usagef("want one DIGEST of 64 hexadecimal digits, or four arguments and more: %v", err)
				}
				return pullImage(c.Context, streamsOf(c), root, opt)
			}
			p, err := farPlaceOf(c.Args().Slice())
			if err != nil {
				return err
			}
			return pull(c.Context, streamsOf(c), p, farOptions{int64(opt.source.reach.flags.Each), opt.log})
		},
	}
}

// pull serves one reader. Chunks are not verified: the reader does that, and would have
// to in any case.
func pull(ctx context.Context, std streams, p farPlace, opt farOptions) error {
	out := paced(std.out, opt.rate)
	serve, done, err := p.reading(ctx, opt.log.logger(std.err))
	if err != nil {
		farside.Refuse(out, err)
		return err
	}
	defer done()
	return serve.Serve(ctx, std.in, out)
}

// reading opens what is to be given away; done closes it.
func (p farPlace) reading(ctx context.Context, log *slog.Logger) (serve farside.Pull, done func(), err error) {
	var files []io.Closer
	done = func() {
		for _, f := range files {
			f.Close()
		}
	}
	file := func(path string) io.Reader {
		if path == farNothing || err != nil {
			return nil
		}
		r, _, openErr := open.Reader(ctx, path, open.Options{})
		if openErr != nil {
			err = openErr
			return nil
		}
		files = append(files, r)
		return r
	}
	serve = farside.Pull{Index: file(p.index), Archive: file(p.archive), Log: log}
	if err == nil {
		serve.Stores, err = farStores(p.stores)
	}
	if err != nil {
		done()
	}
	return serve, done, err
}

// farStores opens the stores that are named, to read what is in them as it is.
func farStores(paths []string) (stores []store.Store, err error) {
	asIs := func(s store.Store, _ open.Origin) store.Store { return s }
	for _, path := range paths {
		if path == farNothing {
			continue
		}
		s, err := open.Store(path, open.Options{Wrap: asIs})
		if err != nil {
			return nil, err
		}
		stores = append(stores, s)
	}
	return stores, nil
}

func paced(w io.Writer, rate int64) io.Writer {
	if rate == 0 {
		return w
	}
	return farside.Paced(w, rate)
}

func pushCommand() *cli.Command {
	var opt farOptions
	return &cli.Command{
		Name:      "push",
		Category:  serving,
		Usage:     "take chunks and files from a casync or caravel at the other end of an ssh",
		ArgsUsage: "BASE ARCHIVE INDEX STORE [STORE...]",
		Description: `Speaks casync's protocol on standard input and output. Nobody types this: those who
make host:path run it there by ssh, as casync push, or under the name in
$CASYNC_REMOTE_PATH. Each argument is a path, or - for nothing; BASE is always -.
Chunks go into the first store, and are not asked for if another one has them. Each
is verified; the index gets its name when all of it is on disk.

` + examples(
			"CASYNC_REMOTE_PATH=caravel casync make host:/srv/disk.caibx disk.img",
			"caravel make host:/srv/disk.caibx disk.img",
			"# what those run there",
			"caravel push - - /srv/disk.caibx /srv/default.castr",
		),
		Flags: farFlags(&opt),
		Action: func(c *cli.Context) error {
			p, err := farPlaceOf(c.Args().Slice())
			if err != nil {
				return err
			}
			return push(c.Context, streamsOf(c), p, opt)
		},
	}
}

// push serves one writer.
func push(ctx context.Context, std streams, p farPlace, opt farOptions) error {
	out := paced(std.out, opt.rate)
	serve, err := p.writing()
	if err != nil {
		farside.Refuse(out, err)
		return err
	}
	return serve.Serve(ctx, std.in, out)
}

// writing opens what is to be written.
func (p farPlace) writing() (serve farside.Push, err error) {
	serve.Index, serve.Archive = putFar(p.index), putFar(p.archive)
	if p.stores[0] != farNothing {
		if serve.Store, err = open.Writer(p.stores[0], open.Options{Form: store.Form{Either: true}}); err != nil {
			return serve, err
		}
	}
	serve.Others, err = farStores(p.stores[1:])
	return serve, err
}

// putFar puts a file at a path, with the permissions that new files have; nil if there
// is to be none.
func putFar(path string) func(ctx context.Context, r io.Reader) error {
	if path == farNothing {
		return nil
	}
	return func(ctx context.Context, r io.Reader) error { return putFile(ctx, path, r, local.Options{Sync: true}) }
}
