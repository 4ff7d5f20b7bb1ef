package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
	"caravel/listing"
)

func statCommand() *cli.Command {
	var opt listOptions
	return &cli.Command{
		Name:      "stat",
		Category:  images,
		Usage:     "print all that is known of one entry of a tree",
		ArgsUsage: "[TREE [PATH]]",
		Description: `Prints the metadata of the entry PATH, or of the root, of TREE: a .caidx or .catar
(a path, a URL, "-" for standard input) or a directory, as if it were packed; the
current one if none is named. Of an image elsewhere no more than that entry is
fetched. The last two lines are the digest of a file's content, and that of the
content with all metadata but the name.

` + examples(
			"caravel stat http://host/tree.caidx etc/passwd",
			"caravel stat --json tree.caidx usr/bin/ping | jq .xattrs",
		),
		Flags:  append(listFlags(&opt), ignoredRecursive()),
		Action: listAction(&opt, false, stat),
	}
}

// stat prints one entry.
func stat(ctx context.Context, a archive.Archive, path string, out *printer, _ listOptions) error {
	if f, ok := a.(*archive.Folder); ok {
		return statFolder(ctx, f, path, out)
	}
	t, err := a.Random(ctx)
	if err != nil {
		return err
	}
	at, err := t.Find(ctx, path)
	if err != nil {
		return err
	}
	n, err := t.Stat(ctx, at.ID)
	if err != nil {
		return err
	}
	d := listing.Details{Flags: t.Flags()}
	if !n.IsDir() {
		d.Digest, d.Link, err = t.Digests(ctx, n, t.Span(at.ID))
	}
	if err != nil {
		return err
	}
	return out.whole(path, n, d)
}

// statFolder prints an entry of a folder as the archive would have it.
func statFolder(ctx context.Context, f *archive.Folder, path string, out *printer) error {
	at, err := archive.EntriesAt(ctx, f, path)
	if err != nil {
		return err
	}
	defer at.Close()
	for n, err := range at.All {
		if err != nil {
			return err
		}
		d := listing.Details{Flags: at.Flags()}
		if n.IsDir() || n.IsRegular() {
			d.ProjID = d.Flags&feature.QuotaProjID != 0 && inode.HasProjects(filepath.Join(f.Path, path))
		}
		if !n.IsDir() {
			if d.Digest, d.Link, err = at.Digests(n.Node); err != nil {
				return err
			}
		}
		return out.whole(path, n.Node, d)
	}
	return nil
}

// whole prints what stat prints.
func (p *printer) whole(path string, n *catar.Node, d listing.Details) error {
	d.Zone = time.Local
	if p.json {
		return p.entry(listing.Whole(path, n, d))
	}
	return p.text(func(b []byte) []byte { return listing.Stat(b, path, n, d) })
}
