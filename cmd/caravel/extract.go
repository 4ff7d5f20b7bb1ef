package main

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/internal/progress"
	"caravel/seed"
)

type extractOptions struct {
	source     sourceOptions
	what       kind
	features   featureOptions
	remove     *bool // what the archive has not; nil: not said
	hardlink   bool
	unseal     bool
	effort     bool
	shift      idShift
	inPlace    bool
	holes      bool
	noSync     bool
	dryRun     bool
	printStats bool
	seeds      seedOptions
	progress   progress.Mode
	log        logOptions
	json       bool
}

func extractCommand() *cli.Command {
	opt := extractOptions{holes: true}
	var remove bool
	return &cli.Command{
		Name:      "extract",
		Category:  images,
		Usage:     "write a whole image to a directory, a file, a block device or a pipe",
		ArgsUsage: "[IMAGE [TO [PATH]]]",
		Description: `Writes the tree of IMAGE, a .caidx or .catar (a path, a URL, "-" for standard
input, as if nothing is named), into the directory TO, the current one if none is
named; with PATH only that entry of it, under its own name, and no more than that
is fetched. Each file appears complete and on disk, the tree as a whole does not:
until extract is done some of it is old. What is right in TO already stays, so the run
after one that was interrupted goes on from there. If TO holds what the tree has not,
say what is to become of it. --dry-run goes by what is said of entries (size, time,
mode, owners), not by what is in files; where the chunks are behind a network, TO is looked
through for them, as when it is written.

The disk image of a .caibx goes to the file TO, or to standard output ("-"). A
file gets its name when it is complete and on disk; until then what is done lies
beside it under another name, and the next run goes on from there. A block device
is written in place, after its size was checked. Every chunk is verified, wherever it
comes from.

What is on this machine already is not fetched: what TO holds, in whichever place, what
repeats, and what the seeds have. A seed is cut as the image was; one that has changed, or
cannot be read, costs no more than that its chunks are fetched.

` + examples(
			"caravel extract http://host/tree.caidx /srv/tree",
			"caravel extract http://host/tree.caidx . usr/share/doc",
			"caravel extract --dry-run http://host/tree-v2.caidx /srv/tree",
			"# as an ordinary user",
			"caravel extract --without=privileged tree.caidx /tmp/tree",
			"# for a container whose users begin at 100000",
			"caravel extract --uid-shift=100000 http://host/os.caidx /srv/machine",
			"caravel extract http://host/disk.caibx disk.img",
			"caravel extract --store=/srv/pool.castr disk.caibx /dev/vg/root",
			"caravel extract http://host/disk.caibx - | gzip > disk.img.gz",
			"# fetch only what differs from what disk.img holds",
			"caravel extract --in-place http://host/disk-v2.caibx disk.img",
			"# or from another disk; and how much that would be",
			"caravel extract --seed=/dev/vg/root-a http://host/disk-v2.caibx /dev/vg/root-b",
			"caravel extract --dry-run --seed=disk-v1.img http://host/disk-v2.caibx disk-v2.img",
		),
		Flags: slices.Concat([]cli.Flag{
			whatFlag(&opt.what, archiveKind, archiveIndex, blobIndex),
			newSwitch("delete", "remove what TO holds and the tree has not; no: keep it", &remove),
			newSwitch("hardlink", "of files of a tree that are equal, in content and metadata, make one with several names", &opt.hardlink),
			newSwitch("undo-immutable", "take chattr's +i and +a from what is replaced or removed", &opt.unseal),
			newSwitch("best-effort", "go on where something of a tree may not be set here, and list it", &opt.effort),
			newSwitch("in-place", "write into the file TO itself and keep what is right in it", &opt.inPlace, "k"),
			newSwitch("punch-holes", "leave holes where there are zeros", &opt.holes),
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			newSwitch("dry-run", "say where the bytes of a disk image would come from, or what of a tree would be created, replaced, removed and fetched, and write nothing", &opt.dryRun),
			newSwitch("print-stats", "print, as JSON, where the chunks of a disk image came from, in desync's words", &opt.printStats),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, shiftFlags(&opt.shift), seedFlags(&opt.seeds), withFlags(&opt.features, "restore"), treeFlags(&opt.source), sourceFlags(&opt.source), logFlags(&opt.log), []cli.Flag{
			&cli.GenericFlag{Name: "digest", Usage: "the `ALGORITHM` that the image names", Value: digestValue(new(chunker.Digest)), Hidden: true},
		}),
		Action: func(c *cli.Context) error {
			switch {
			case opt.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() > 3 || c.NArg() == 0 && !streamsOf(c).fed():
				return usagef("want IMAGE and perhaps TO and PATH, not %d arguments", c.NArg())
			}
			if err := opt.seeds.check(); err != nil {
				return err
			}
			if c.IsSet("delete") {
				opt.remove = &remove
			}
			e := &extraction{
				extractOptions: opt,
				std:            streamsOf(c),
				in:             argument(c, 0, "-"),
				out:            argument(c, 1, ""),
				path:           cleanPath(argument(c, 2, "")),
			}
			if c.NArg() > 1 && e.out == "" {
				return usagef("TO is empty")
			}
			return e.run(c.Context)
		},
	}
}

// An extraction is one run of extract.
type extraction struct {
	extractOptions
	std     streams
	in, out string // out "": what is usual for the kind
	path    string // of a part of a tree; "": all
	shown   *progress.Progress
	refused refusals
	index   *index.Index                                                     // of a tree; nil: it has none
	sets    []*seed.Set                                                      // that were indexed for it
	share   func(off, n int64, use func(*os.File, int64, int64, int64) bool) // of a tree; nil: nothing is
}

func (e *extraction) run(ctx context.Context) error {
	k, err := e.kind()
	if err != nil {
		return err
	}
	e.shown = progress.New(e.std.err, e.progress, "extract "+e.in, 0)
	got, err := e.extract(ctx, k)
	e.shown.Done(err)
	if !e.json {
		e.refused.print(e.std.err)
	}
	if err != nil {
		return err
	}
	to := e.std.out
	if e.out == "-" && !e.dryRun {
		to = e.std.err
	}
	switch plan, ok := got.(extractedBlob); {
	case got == nil:
	case e.json:
		return json.NewEncoder(to).Encode(got)
	case e.dryRun && ok:
		return plan.print(to)
	}
	return nil
}

// kind tells what is extracted, as far as that shows without reading it, or
// from the first bytes of standard input. As in casync, an index whose name
// does not say what it is of is that of a tree if it goes into a directory.
func (e *extraction) kind() (kind, error) {
	k := cmp.Or(e.what, kindOf(e.in))
	if k == unknownKind && e.in == "-" {
		var err error
		if k, err = e.std.sniff(); err != nil {
			return "", err
		}
	}
	if st, err := os.Stat(e.out); k == unknownKind && err == nil && st.IsDir() {
		k = archiveIndex
	}
	switch {
	case k == folderKind:
		return "", usagef("%s: is a directory, not an image", e.in)
	case k == blobIndex && e.path != "":
		return "", e.noEntry()
	}
	return k, nil
}

// extract returns what there is to report.
func (e *extraction) extract(ctx context.Context, k kind) (any, error) {
	from, err := newLazyOpener(e.std, lazyOptions{source: e.source}, e.log.logger(e.shown))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	if k == archiveKind {
		if err := e.checkTree(); err != nil {
			return nil, err
		}
		a, err := from.openArchive(ctx, e.in, k, packOptions{})
		if err != nil {
			return nil, err
		}
		return e.tree(ctx, from, a)
	}
	as := reading{once: e.path == ""}
	if k != blobIndex {
		as.sides = e.source.treeSide()
	}
	img, err := from.image(ctx, e.in, as)
	if err != nil {
		return nil, err
	}
	if cmp.Or(k, kindOfIndex(img.Index)) == archiveIndex {
		return e.seededTree(ctx, from, img)
	}
	return e.blob(ctx, from, img)
}

func (e *extraction) noEntry() error {
	return usagef("%s: holds a disk image, which has no entry %s", e.in, e.path)
}

// mask is what is restored of a tree. The bit of the digest says nothing of an
// entry, but no features at all would mean all of them.
func (e *extraction) mask() feature.Flags { return e.features.of(feature.All) | feature.SHA512_256 }
