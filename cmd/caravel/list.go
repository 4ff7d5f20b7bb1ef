package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/internal/notify"
	"caravel/listing"
)

// listOptions are those of the commands that print entries.
type listOptions struct {
	source    sourceOptions
	pack      packOptions
	what      kind
	recursive bool
	json      bool
	log       logOptions
}

func listFlags(opt *listOptions) []cli.Flag {
	return slices.Concat([]cli.Flag{
		whatFlag(&opt.what, archiveKind, archiveIndex, folderKind),
		jsonFlag(&opt.json),
	}, packFlags(&opt.pack), treeFlags(&opt.source), sourceFlags(&opt.source), logFlags(&opt.log))
}

func listCommand() *cli.Command {
	opt := listOptions{recursive: true}
	return &cli.Command{
		Name:      "list",
		Category:  images,
		Usage:     "list the entries of a tree",
		ArgsUsage: "[TREE [PATH]]",
		Description: `Prints mode and path of each entry of TREE: a .caidx or .catar (a path, a URL, "-"
for standard input) or a directory, as if it were packed; the current one if none
is named. With PATH only that entry and what is below it. Of an image elsewhere
only what holds the names is fetched. What is not printable is written \ooo.

` + examples(
			"caravel list http://host/tree.caidx",
			"caravel list --recursive=no http://host/tree.caidx usr/share",
			"# what would be packed of this directory",
			"caravel list --exclude-submounts",
			"caravel list --json tree.caidx | jq -r 'select(.type == \"link\").path'",
		),
		Flags: append([]cli.Flag{
			newSwitch("recursive", "list what is below the directories in it, too", &opt.recursive),
		}, listFlags(&opt)...),
		Action: listAction(&opt, false, listEntries),
	}
}

// listAction calls do with the output of a command that prints entries; files
// says that it reads all files, too.
func listAction(opt *listOptions, files bool, do func(ctx context.Context, a archive.Archive, path string, out *printer, opt listOptions) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		switch {
		case opt.pack.features.wantsHelp():
			return printFeatures(c.App.Writer)
		case c.NArg() > 2:
			return usagef("want TREE and perhaps PATH, not %d arguments", c.NArg())
		}
		std, in := streamsOf(c), argument(c, 0, ".")
		k, err := std.treeKind(in, opt.what)
		if err != nil {
			return err
		}
		from, err := newLazyOpener(std, lazyOptions{source: opt.source}, opt.log.logger(std.err))
		if err != nil {
			return err
		}
		defer from.Close()
		path := cleanPath(argument(c, 1, ""))
		from.once = files && path == ""
		a, err := from.openArchive(c.Context, in, k, opt.pack)
		if err != nil {
			return err
		}
		defer a.Close()
		_ = notify.Send(notify.Ready) // nobody need listen
		out := &printer{w: bufio.NewWriterSize(std.out, 64<<10), json: opt.json}
		err = do(c.Context, a, path, out, *opt)
		if failed := out.w.Flush(); failed != nil || err == nil {
			return failed // it is not the tree's fault
		}
		return within(in, err)
	}
}

// treeKind tells what kind of tree a location holds, by what the user said, by
// its name, or, of standard input, by its first bytes.
func (s *streams) treeKind(location string, what kind) (kind, error) {
	k := what
	if k == unknownKind {
		k = kindOf(location)
	}
	if k != unknownKind {
		return k, nil
	}
	if location == "-" {
		k, err := s.sniff()
		if k == unknownKind {
			k = archiveIndex
		}
		return k, err
	}
	if !strings.Contains(location, "://") {
		if _, err := os.Stat(location); err != nil {
			return "", err
		}
	}
	return "", usagef("%s: the name does not say what it is; say --what=archive or archive-index", location)
}

// A printer prints entries, as text or as JSON.
type printer struct {
	w    *bufio.Writer
	json bool
	line []byte // reused
}

func (p *printer) text(appendTo func(b []byte) []byte) error {
	p.line = appendTo(p.line[:0])
	_, err := p.w.Write(p.line)
	return err
}

func (p *printer) entry(e *listing.Entry) error { return json.NewEncoder(p.w).Encode(e) }

// brief prints what list prints.
func (p *printer) brief(path string, mode uint32) error {
	if p.json {
		return p.entry(listing.Brief(path, mode))
	}
	return p.text(func(b []byte) []byte { return listing.List(b, path, mode) })
}

// listEntries prints the entries of an archive: as they come, if it can only be
// read in order or nothing is saved otherwise (a .catar of this machine takes
// half the time), else by its tables, without what lies between.
func listEntries(ctx context.Context, a archive.Archive, path string, out *printer, opt listOptions) error {
	if a.InOrder() || path == "" && a.Skips() {
		return listInOrder(ctx, a, path, out, opt.recursive)
	}
	t, err := a.Random(ctx)
	if err != nil {
		return err
	}
	at, err := t.Find(ctx, path)
	if err != nil {
		return err
	}
	depth := 1
	if opt.recursive {
		depth = -1
	}
	for step, err := range t.Walk(ctx, at.ID, depth) {
		if err != nil {
			return err
		}
		if err := out.brief(joined(path, step.Path), step.Mode); err != nil {
			return err
		}
	}
	return nil
}

// joined is the path of an entry below another.
func joined(path, rest string) string {
	if path == "" || rest == "" {
		return path + rest
	}
	return path + "/" + rest
}

func listInOrder(ctx context.Context, a archive.Archive, path string, out *printer, recursive bool) error {
	at, err := archive.EntriesAt(ctx, a, path)
	if err != nil {
		return err
	}
	defer at.Close()
	top := -1
	for f, err := range at.All {
		if err != nil {
			return err
		}
		if top < 0 {
			top = f.Depth
		}
		if !recursive && f.Depth > top+1 {
			continue
		}
		if err := out.brief(f.Path, f.Mode); err != nil {
			return err
		}
	}
	return nil
}
