package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
	"caravel/internal/notify"
	"caravel/internal/progress"
	"caravel/store/local"
	"caravel/tarball"
)

type untarOptions struct {
	extractOptions
	index      bool
	format     string // disk or tar; "": as the output's name says
	noOwner    bool
	noMode     bool
	bestEffort bool
}

func untarCommand() *cli.Command {
	opt := untarOptions{extractOptions: extractOptions{holes: true}}
	return &cli.Command{
		Name:      "untar",
		Category:  images,
		Usage:     "write a tree into a directory or as a tar stream, as desync untar does",
		ArgsUsage: "ARCHIVE TO",
		Description: `Writes the tree of ARCHIVE (a .catar; with -i or named .caidx an index; a path, a URL, "-"
for standard input) into the directory TO, and leaves there what the tree has not, or as
a tar stream to TO: "-" for standard output, or with --output-format=tar a file. The stream
is in the POSIX format with the extensions that GNU tar and bsdtar read: extended
attributes, access control lists, labels, long runs of zeros as holes, times to the
nanosecond. desync's name for it, gnu-tar, is taken too. What tar cannot say, a socket for
one, is left out and listed, and the exit status is 1, unless with --best-effort.

` + examples(
			"caravel untar tree.catar /srv/tree",
			"caravel untar -i -s http://host/default.castr http://host/tree.caidx /srv/tree",
			"caravel untar http://host/tree.caidx - | tar -C /srv/tree --xattrs --xattrs-include='*' --acls -x",
			"caravel untar http://host/rootfs.caidx - | docker import - box",
		),
		Flags: slices.Concat([]cli.Flag{
			newSwitch("index", "ARCHIVE is an index, whatever its name", &opt.index, "i"),
			&cli.GenericFlag{Name: "output-format", Aliases: []string{"format"}, Usage: "write `WHAT`: disk, a directory, or tar (also pax, gnu-tar)", DefaultText: "tar to standard output, else disk", Value: outputValue(&opt.format)},
			newSwitch("no-same-owner", "do not restore whose files they are", &opt.noOwner),
			newSwitch("no-same-permissions", "let the umask decide on permissions", &opt.noMode),
			newSwitch("punch-holes", "leave holes where there are zeros", &opt.holes, "sparse"),
			bestEffortFlag(&opt.bestEffort),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, withFlags(&opt.features, "restore"), treeFlags(&opt.source), sourceFlags(&opt.source), logFlags(&opt.log), []cli.Flag{
			&cli.GenericFlag{Name: "digest", Usage: "the `ALGORITHM` that the image names", Value: digestValue(new(chunker.Digest)), Hidden: true},
		}),
		Action: func(c *cli.Context) error {
			switch {
			case opt.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() != 2:
				return usagef("want ARCHIVE and where to write it, not %d arguments", c.NArg())
			}
			return untar(c.Context, streamsOf(c), c.Args().Get(0), c.Args().Get(1), opt)
		},
	}
}

// outputValue is the value of --output-format.
func outputValue(to *string) cli.Generic {
	parse := func(s string) (string, error) {
		switch s {
		case diskInput, tarInput:
			return s, nil
		case "pax", "gnu-tar":
			return tarInput, nil
		}
		return "", errors.New("want disk, tar, pax or gnu-tar")
	}
	return &value[string]{to, parse, func(s string) string { return s }}
}

// untar writes a tree out.
func untar(ctx context.Context, std streams, in, out string, opt untarOptions) error {
	keep := false // desync removes nothing
	opt.remove = &keep
	if opt.noOwner {
		opt.features.without.flags |= feature.UIDs | feature.UserNames
	}
	if opt.noMode {
		opt.features.without.flags |= feature.Permissions | feature.ACL | feature.ReadOnly
	}
	switch {
	case opt.index:
		opt.what = archiveIndex
	case in != "-" && kindOf(in) == unknownKind:
		opt.what = archiveKind
	}
	e := &extraction{extractOptions: opt.extractOptions, std: std, in: in, out: out}
	if opt.format == diskInput || opt.format == "" && out != "-" {
		return e.run(ctx)
	}
	if opt.features.with.given || opt.features.without.given || opt.noOwner || opt.noMode {
		return usagef("a tar stream is of all that ARCHIVE has; what is restored is said to who unpacks it")
	}
	return e.untar(ctx, opt.bestEffort)
}

// An untarred tree is what JSON says of it.
type untarred struct {
	Entries int64 `json:"entries"`
	Lost    int   `json:"lost"`
}

// untar writes the tree as a tar stream.
func (e *extraction) untar(ctx context.Context, bestEffort bool) error {
	k, err := e.kind()
	if err != nil {
		return err
	}
	e.shown = progress.New(e.std.err, e.progress, "untar "+e.in, 0)
	log := e.log.logger(e.shown)
	got, err := e.toTar(ctx, k)
	e.shown.Done(err)
	if err != nil {
		return err
	}
	if e.json {
		to := e.std.out
		if e.out == "-" {
			to = e.std.err
		}
		if err := json.NewEncoder(to).Encode(untarred{got.Entries, got.Lost.Count}); err != nil {
			return err
		}
	}
	return reportLost(log, e.in, got.Lost, bestEffort)
}

// toTar opens the tree and writes it into its file.
func (e *extraction) toTar(ctx context.Context, k kind) (got tarball.Written, err error) {
	from, err := newLazyOpener(e.std, lazyOptions{source: e.source}, e.log.logger(e.shown))
	if err != nil {
		return got, err
	}
	defer from.Close()
	if k == unknownKind {
		k = archiveIndex
	}
	from.once = true
	a, err := from.openArchive(ctx, e.in, k, packOptions{})
	if err != nil {
		return got, err
	}
	defer a.Close()
	_ = notify.Send(notify.Ready) // nobody need listen
	src, err := a.Stream(ctx)
	if err != nil {
		return got, within(e.in, err)
	}
	defer src.Close()
	write := func(w io.Writer) (err error) {
		buffered := bufio.NewWriterSize(w, 256<<10)
		got, err = tarball.Write(ctx, buffered, catar.NewDecoder(src, catar.DecoderOptions{}), tarball.WriteOptions{
			Fill:     !e.holes,
			Progress: e.shown.Counter(),
		})
		if err != nil {
			return within(e.in, err)
		}
		return buffered.Flush()
	}
	if e.out == "-" {
		err = write(e.std.out)
	} else {
		err = putWritten(ctx, e.out, write, local.Options{Mode: 0o666, Sync: !e.noSync})
	}
	return got, err
}

// putWritten puts what write writes into a file, as putFile does.
func putWritten(ctx context.Context, path string, write func(io.Writer) error, opt local.Options) error {
	r, w := io.Pipe()
	var writing sync.WaitGroup
	var source error
	writing.Go(func() {
		source = write(w)
		w.CloseWithError(source)
	})
	err := putFile(ctx, path, r, opt)
	r.CloseWithError(err)
	writing.Wait()
	if err != nil && source != nil && errors.Is(err, source) {
		return source // it is not the file's fault
	}
	return err
}
