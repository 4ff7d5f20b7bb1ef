package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/catar"
	"caravel/chunker"
	"caravel/feature"
	"caravel/listing"
)

func mtreeCommand() *cli.Command {
	var opt listOptions
	return &cli.Command{
		Name:      "mtree",
		Category:  images,
		Usage:     "list the entries of a tree with their metadata and digests",
		ArgsUsage: "[TREE [PATH]]",
		Description: `Prints a line of mtree(5) for each entry of TREE: a .caidx or .catar (a path, a
URL, "-" for standard input) or a directory, as if it were packed; the current one
if none is named. With PATH only that entry and what is below it; of an image
elsewhere no more than that is fetched. Every file is read, for its digest.

` + examples(
			"caravel mtree tree.caidx",
			"caravel mtree http://host/tree.caidx usr/bin",
			"# what differs between a directory and an image of it",
			"diff <(caravel mtree /srv/tree) <(caravel mtree tree.caidx)",
		),
		Flags:  append(listFlags(&opt), ignoredRecursive(), indexFlag(&opt.what)),
		Action: listAction(&opt, true, mtree),
	}
}

// indexFlag is desync's for an archive's index, which we tell by its name.
func indexFlag(to *kind) cli.Flag {
	f := newSwitch("index", "as --what=archive-index", new(bool), "i")
	f.Hidden = true
	f.Action = func(_ *cli.Context, given any) error {
		if given.(cli.Generic).String() == showYesNo(true) {
			*to = archiveIndex
		}
		return nil
	}
	return f
}

// ignoredRecursive is a flag that every command of casync takes, and that
// changes nothing but in list.
func ignoredRecursive() cli.Flag {
	f := newSwitch("recursive", "", new(bool))
	f.Hidden = true
	return f
}

func mtree(ctx context.Context, a archive.Archive, path string, out *printer, _ listOptions) error {
	at, err := archive.EntriesAt(ctx, a, path)
	if err != nil {
		return err
	}
	defer at.Close()
	var sums *listing.Sums[archive.Found]
	for f, err := range at.All {
		if err != nil {
			return err
		}
		if sums == nil {
			sums = listing.NewSums(at.Flags().Digest(), func(f archive.Found, digest chunker.ID) error {
				return out.full(f.Path, f.Node, at.Flags(), digest)
			})
			defer sums.Close()
		}
		n := *f.Node // the next one takes its place
		// Thousands may wait, and these are not printed.
		n.XAttrs, n.ACL, n.FCaps, n.SELinux = nil, nil, nil, ""
		f.Node = &n
		if n.IsRegular() {
			err = sums.File(f, at, n.Size)
		} else {
			err = sums.Add(f)
		}
		if err != nil {
			return err
		}
	}
	if sums == nil {
		return nil
	}
	return sums.Flush()
}

// full prints what mtree prints.
func (p *printer) full(path string, n *catar.Node, f feature.Flags, digest chunker.ID) error {
	if p.json {
		return p.entry(listing.Full(path, n, f, digest))
	}
	return p.text(func(b []byte) []byte { return listing.MTree(b, path, n, f, digest) })
}
