package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/internal/notify"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/open"
)

type treeOptions struct {
	source sourceOptions
	noSync bool
	log    logOptions
	json   bool
}

func treeCommand() *cli.Command {
	var opt treeOptions
	return &cli.Command{
		Name:      "tree",
		Category:  lazily,
		Usage:     "write the sidecar of a tree's image that somebody else has made",
		ArgsUsage: "INDEX [OUT]",
		Description: `Reads the names and attributes of all entries of INDEX, a .caidx (a path, a URL,
"-" for standard input), and writes them to OUT (a path, the URL of a server that
takes files, "-" for standard output), by default to INDEX.tree beside it: with such a sidecar, as make writes it, a tree
can be looked through before a chunk is there. It belongs to this index alone.
Prints the digest that --tree-digest wants.

` + examples(
			"caravel tree /srv/www/tree.caidx",
			"caravel tree http://host/tree.caidx tree.caidx.tree",
		),
		Flags: slices.Concat([]cli.Flag{
			newSwitch("no-sync", "do not wait until all is on disk", &opt.noSync),
			jsonFlag(&opt.json),
		}, sourceFlags(&opt.source), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return usagef("want INDEX and perhaps OUT, not %d arguments", c.NArg())
			}
			return writeTree(c.Context, streamsOf(c), c.Args().First(), argument(c, 1, ""), opt)
		},
	}
}

// A writtenTree is what tree reports.
type writtenTree struct {
	Digest  string `json:"treeDigest"`
	Entries int    `json:"entries"`
	Bytes   int    `json:"bytes"`
}

// writeTree writes the sidecar of the tree behind an index.
func writeTree(ctx context.Context, std streams, in, out string, opt treeOptions) error {
	beside := out == ""
	if beside {
		if out = open.Beside(in, treeSuffix); out == "" {
			return usagef("%s: nothing can be written beside it; name OUT", in)
		}
	}
	if k := kindByName(in); k == blobIndex || k == archiveKind {
		return fmt.Errorf("%s: only the index of a tree, a .caidx, has a sidecar", in)
	}
	if out != "-" {
		if err := canWriteAt(out); err != nil {
			return err
		}
	}
	from, err := newLazyOpener(std, lazyOptions{source: opt.source}, opt.log.logger(std.err))
	if err != nil {
		return err
	}
	defer from.Close()
	sidecar, entries, err := buildTree(ctx, from, in)
	if err != nil {
		return err
	}
	to := std.out
	if out == "-" {
		to = std.err
		_, err = std.out.Write(sidecar)
	} else {
		err = putAt(ctx, out, sidecar, local.Options{Sync: !opt.noSync}, from.where)
	}
	if beside && errors.Is(err, store.ErrRefused) && open.Remote(out) {
		err = fmt.Errorf("%w; or name OUT, to have it here", err)
	}
	if err != nil {
		return err
	}
	return writtenTree{digestOf(sidecar), entries, len(sidecar)}.print(to, opt.json)
}

// buildTree reads all entries, without trusting a sidecar that there may be.
func buildTree(ctx context.Context, from *lazyOpener, in string) (sidecar []byte, entries int, err error) {
	src, err := from.image(ctx, in, reading{})
	if err != nil {
		return nil, 0, err
	}
	if kindOfIndex(src.Index) != archiveIndex {
		return nil, 0, fmt.Errorf("%s: holds a disk image, not a tree", in)
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	a, _ := from.indexedAs(src, archive.IndexedOptions{Built: func(b []byte) { sidecar = b }})
	defer a.Close()
	t, err := a.Random(ctx)
	if err == nil {
		err = t.Complete(ctx)
	}
	if err == nil && sidecar == nil {
		_, err = t.Sidecar(src.Index.Sum()) // which says why there is none
	}
	if err != nil {
		return nil, 0, within(in, err)
	}
	return sidecar, t.Len(), nil
}

func (t writtenTree) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(t)
	}
	_, err := fmt.Fprintln(w, t.Digest)
	return err
}
