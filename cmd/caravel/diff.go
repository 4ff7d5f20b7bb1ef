package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/image"
	"caravel/index"
	"caravel/internal/progress"
	"caravel/internal/redact"
	"caravel/listing"
)

type diffOptions struct {
	source   sourceOptions
	contents bool
	exitCode bool
	progress progress.Mode
	log      logOptions
	json     bool
}

func diffCommand() *cli.Command {
	var opt diffOptions
	return &cli.Command{
		Name:      "diff",
		Category:  images,
		Usage:     "print what differs between two images, and how much there is to fetch",
		ArgsUsage: "OLD NEW",
		Description: `Compares two images by their indexes, paths or URLs, both of trees or both of disks.
Of trees a line is printed for each entry that is new (+), gone (-) or changed (~), and in
what: type, mode, owner, group, mtime, size, content, target, device, xattrs. Of disks a
line for each part of NEW that OLD has not in that place: where it begins, its size, and
"new", or "moved" if OLD has these chunks elsewhere. The last line says which chunks of
NEW, each counted once, OLD has not: what there is to fetch for who has OLD, and takes it
as a seed.

Names and attributes come from the sidecars, or from as much of the images as has them;
contents are compared by their chunks, and not fetched. Where files of one size lie in
chunks that are not the same, these may differ by their neighbours only: if the times
differ, too, "content?" is printed, else the files are taken for the same. With
--contents such files are fetched and compared, and attributes (as of chattr), too.

The exit status is 0 also if there are differences, unless --exit-code is said: then it is
1.

` + examples(
			"caravel diff v1.caidx v2.caidx",
			"caravel diff --json http://host/v1.caidx http://host/v2.caidx | jq -r '.changes[].path'",
			"caravel diff --exit-code v1.caibx v2.caibx || echo there is something new",
		),
		Flags: slices.Concat([]cli.Flag{
			newSwitch("contents", "fetch and compare what chunks do not tell", &opt.contents),
			newSwitch("exit-code", "end with status 1 if there are differences", &opt.exitCode),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, treeFlags(&opt.source), sourceFlags(&opt.source), logFlags(&opt.log), impliedFlags()),
		Action: func(c *cli.Context) error {
			a, b := c.Args().Get(0), c.Args().Get(1)
			switch {
			case c.NArg() != 2:
				return usagef("want two images, OLD and NEW, not %d arguments", c.NArg())
			case a == "-" || b == "-":
				return usagef("an image on standard input has no chunks beside it; name a path or URL")
			case opt.source.pin != nil || opt.source.treePin != nil:
				return usagef("--index-digest and --tree-digest are for one image")
			}
			return diffImages(c.Context, streamsOf(c), a, b, opt)
		},
	}
}

// A diffReport is what diff prints as JSON.
type diffReport struct {
	Kind    kind         `json:"kind"`
	Changes []diffChange `json:"changes"`
	Fetch   diffAmount   `json:"fetch"` // chunks of NEW that OLD has not
	New     diffAmount   `json:"new"`   // all chunks of NEW
}

// A diffAmount counts chunks, each once.
type diffAmount struct {
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"` // plain
}

// A diffChange is an entry of a tree, or a part of a disk.
type diffChange struct {
	Change    string   `json:"change"` // added, removed, changed; of a disk new or moved
	Path      string   `json:"path,omitempty"`
	PathBytes []byte   `json:"path_bytes,omitempty"` // if that is no UTF-8; base64
	What      []string `json:"what,omitempty"`       // of one that is changed
	Start     *int64   `json:"start,omitempty"`
	Size      *int64   `json:"size,omitempty"`

	path string // as it is
}

// diffImages compares two images.
func diffImages(ctx context.Context, std streams, a, b string, opt diffOptions) error {
	shown := progress.New(std.err, opt.progress, "diff "+redact.URL(b), 0)
	r, err := opt.compare(ctx, std, a, b, shown)
	shown.Done(err)
	if err != nil {
		return err
	}
	if opt.json {
		err = json.NewEncoder(std.out).Encode(r)
	} else {
		err = r.print(std.out)
	}
	if err == nil && opt.exitCode && len(r.Changes) > 0 {
		return &statusError{exitFailed}
	}
	return err
}

func (o diffOptions) compare(ctx context.Context, std streams, a, b string, shown *progress.Progress) (*diffReport, error) {
	from, err := newLazyOpener(std, lazyOptions{source: o.source}, o.log.logger(shown))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	x, err := from.index(ctx, a)
	if err != nil {
		return nil, err
	}
	y, err := from.index(ctx, b)
	if err != nil {
		return nil, err
	}
	k := kindOfIndex(y)
	switch {
	case kindOfIndex(x) != k:
		return nil, fmt.Errorf("%s is of a %s and %s of a %s: there is nothing to compare", redact.URL(a), thing(kindOfIndex(x)), redact.URL(b), thing(k))
	case x.Digest() != y.Digest():
		return nil, fmt.Errorf("the chunks of %s are known by %v and those of %s by %v: they cannot be compared", redact.URL(a), x.Digest(), redact.URL(b), y.Digest())
	}
	u := image.UniqueOf(y)
	known := u.Seeded(x)
	r := &diffReport{
		Kind:  k,
		Fetch: diffAmount(u.Tally(func(i int) bool { return !known[i] })),
		New:   diffAmount(u.Tally(func(int) bool { return true })),
	}
	if k == archiveIndex {
		r.Changes, err = o.trees(ctx, from, a, b)
	} else {
		r.Changes = disks(x, u, known)
	}
	return r, err
}

// thing is what an index is of.
func thing(k kind) string {
	if k == archiveIndex {
		return "tree"
	}
	return "disk image"
}

func (o diffOptions) trees(ctx context.Context, from *lazyOpener, a, b string) ([]diffChange, error) {
	var opened [2]*archive.Indexed
	for i, location := range []string{a, b} {
		src, err := from.image(ctx, location, from.treeReading())
		if err != nil {
			return nil, err
		}
		opened[i], _ = from.indexed(src)
		defer opened[i].Close()
	}
	found, err := archive.Diff(ctx, opened[0], opened[1], archive.DiffOptions{Contents: o.contents})
	if err != nil {
		return nil, err
	}
	all := []diffChange{}
	for _, d := range found {
		c := diffChange{Change: "changed", What: d.What, path: d.Path}
		c.Path, c.PathBytes = listing.Path(d.Path)
		switch {
		case d.Old == nil:
			c.Change = "added"
		case d.New == nil:
			c.Change = "removed"
		}
		all = append(all, c)
	}
	return all, nil
}

func disks(x *index.Index, u *image.Unique, known []bool) []diffChange {
	all := []diffChange{}
	for _, part := range image.Changes(x, u, known) {
		c := diffChange{Change: "new", Start: &part.Start, Size: &part.Size}
		if part.Known {
			c.Change = "moved"
		}
		all = append(all, c)
	}
	if was, is := x.Size(), u.Index.Size(); was > is {
		gone := was - is
		all = append(all, diffChange{Change: "removed", Start: &is, Size: &gone})
	}
	return all
}

// print prints lines for people, and simple scripts.
func (r *diffReport) print(out io.Writer) error {
	w := bufio.NewWriterSize(out, 64<<10)
	for _, c := range r.Changes {
		if _, err := w.Write(c.line()); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "To fetch: %d of %d chunks, %d of %d bytes\n", r.Fetch.Chunks, r.New.Chunks, r.Fetch.Bytes, r.New.Bytes)
	return w.Flush()
}

func (c diffChange) line() []byte {
	b := []byte(map[string]string{"added": "+ ", "removed": "- "}[c.Change])
	if len(b) == 0 {
		b = []byte("~ ")
	}
	if c.Path == "" {
		b = strconv.AppendInt(b, *c.Start, 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, *c.Size, 10)
		if c.Change != "removed" {
			b = append(b, ' ')
			b = append(b, c.Change...)
		}
		return append(b, '\n')
	}
	b = listing.AppendPath(b, c.path)
	if len(c.What) > 0 {
		b = append(b, ": "+strings.Join(c.What, ", ")...)
	}
	return append(b, '\n')
}
