package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"caravel/archive"
	"caravel/catar"
	"caravel/chunker"
	"caravel/image"
	"caravel/internal/progress"
	"caravel/internal/redact"
)

type digestOptions struct {
	source   sourceOptions
	pack     packOptions
	what     kind
	log      logOptions
	progress progress.Mode
	shown    *progress.Progress
	json     bool
}

func digestCommand() *cli.Command {
	var opt digestOptions
	return &cli.Command{
		Name:      "digest",
		Category:  images,
		Usage:     "print the digest of an image, a file, a device or a directory",
		ArgsUsage: "[IMAGE [PATH]]",
		Description: `Prints what make prints. Of a .caibx or .caidx the chunks are fetched and what
they make up is digested, a directory (the current one if none is named) as it
would be packed; any other file as it is. The algorithm is the one that the image
names. With PATH, of a tree: a file's content, or a directory as an archive of
its own; no more than that is fetched.

` + examples(
			"caravel digest disk.img",
			"caravel digest http://host/disk.caibx",
			"caravel digest http://host/tree.caidx usr/bin/ssh",
			"caravel digest --with=unix /srv/tree",
			"caravel digest --digest=sha256 disk.img",
		),
		Flags: slices.Concat([]cli.Flag{
			whatFlag(&opt.what, archiveKind, archiveIndex, blobKind, blobIndex, folderKind),
			progressFlag(&opt.progress),
			jsonFlag(&opt.json),
		}, packFlags(&opt.pack), treeFlags(&opt.source), sourceFlags(&opt.source), logFlags(&opt.log)),
		Action: func(c *cli.Context) error {
			switch {
			case opt.pack.features.wantsHelp():
				return printFeatures(c.App.Writer)
			case c.NArg() > 2:
				return usagef("want IMAGE and perhaps PATH, not %d arguments", c.NArg())
			}
			in, path := argument(c, 0, "."), argument(c, 1, "")
			opt.shown = progress.New(c.App.ErrWriter, opt.progress, "digest "+redact.URL(in), 0)
			id, err := digest(c.Context, streamsOf(c), in, path, opt)
			opt.shown.Done(err)
			switch {
			case err != nil:
				return err
			case opt.json:
				return json.NewEncoder(c.App.Writer).Encode(map[string]chunker.ID{"digest": id})
			}
			_, err = fmt.Fprintln(c.App.Writer, id)
			return err
		},
	}
}

func digest(ctx context.Context, std streams, in, path string, opt digestOptions) (chunker.ID, error) {
	from, err := newLazyOpener(std, lazyOptions{source: opt.source}, opt.log.logger(opt.shown))
	if err != nil {
		return chunker.ID{}, err
	}
	defer from.Close()
	k := digestKind(in, path, opt.what)
	switch {
	case k == blobKind || k == blobIndex:
		if path != "" {
			return chunker.ID{}, usagef("%s: holds no tree in which %s could be", in, path)
		}
		if k == blobKind && opt.source.pin != nil {
			return chunker.ID{}, unpinnable(in)
		}
		if k == blobKind {
			return digestFile(ctx, std, in, opt.pack.digest, opt.shown)
		}
		return from.digestImage(ctx, in, opt.shown)
	case k == archiveIndex && cleanPath(path) == "":
		return from.digestImage(ctx, in, opt.shown)
	}
	a, err := from.openArchive(ctx, in, k, opt.pack)
	if err != nil {
		return chunker.ID{}, err
	}
	defer a.Close()
	var id chunker.ID
	if path = cleanPath(path); path == "" {
		id, err = digestArchive(ctx, a)
	} else {
		id, err = digestEntry(ctx, a, path)
	}
	if err != nil {
		return id, within(in, err)
	}
	return id, nil
}

// digestKind tells what to digest. As in casync, what does not say that it is
// something else is digested as it is; but that takes a file, not a URL.
func digestKind(location, path string, what kind) kind {
	k := what
	if k == unknownKind {
		k = kindOf(location)
	}
	remote := strings.Contains(location, "://")
	switch {
	case k != unknownKind:
		return k
	case remote && path != "":
		return archiveIndex
	case remote:
		return blobIndex
	case path != "":
		return archiveKind
	}
	return blobKind
}

// digestImage digests what an index describes.
func (o *lazyOpener) digestImage(ctx context.Context, in string, shown *progress.Progress) (chunker.ID, error) {
	img, err := o.image(ctx, in, reading{once: true})
	if err != nil {
		return chunker.ID{}, err
	}
	shown.Total(img.Index.Size())
	h := img.Index.Digest().New()
	err = image.Stream(ctx, img.Index, img.store, h, 0, img.Index.Size(), image.StreamOptions{InFlight: o.opt.workers, Progress: shown.Counter()})
	return chunker.ID(h.Sum(nil)), err
}

// counted counts what is written to it.
type counted struct{ shown *progress.Progress }

func (c counted) Write(b []byte) (int, error) {
	c.shown.Add(int64(len(b)))
	return len(b), nil
}

func digestFile(ctx context.Context, std streams, in string, d chunker.Digest, shown *progress.Progress) (chunker.ID, error) {
	src, err := openSource(ctx, std, in, image.SourceOptions{})
	if err != nil {
		return chunker.ID{}, err
	}
	defer src.Close()
	shown.Total(max(src.Size, 0))
	h := d.New()
	if _, err := image.CopySum(counted{shown}, src, h); err != nil {
		return chunker.ID{}, cmp.Or(context.Cause(ctx), err)
	}
	return chunker.ID(h.Sum(nil)), nil
}

// digestArchive digests a .catar or a folder.
func digestArchive(ctx context.Context, a archive.Archive) (chunker.ID, error) {
	r, err := a.Stream(ctx)
	if err != nil {
		return chunker.ID{}, err
	}
	defer r.Close()
	if f, ok := a.(*archive.Folder); ok { // packed just now: nothing to check
		return sumOf(r, f.Flags.Digest())
	}
	c, err := catar.Check(r)
	if err != nil {
		return chunker.ID{}, err
	}
	defer c.Close()
	return sumOf(c, c.Flags.Digest())
}

// digestEntry digests a part of a tree.
func digestEntry(ctx context.Context, a archive.Archive, path string) (chunker.ID, error) {
	if f, ok := a.(*archive.Folder); ok {
		return digestFolderEntry(ctx, f, path)
	}
	t, err := a.Random(ctx)
	if err != nil {
		return chunker.ID{}, err
	}
	at, err := t.Find(ctx, path)
	if err != nil {
		return chunker.ID{}, err
	}
	n, err := t.Stat(ctx, at.ID)
	if err != nil {
		return chunker.ID{}, err
	}
	span := t.Span(at.ID)
	switch {
	case n.IsRegular():
		span = catar.Span{Start: n.Body, End: n.Body + n.Size}
	case !n.IsDir():
		return chunker.ID{}, noContent(path)
	}
	r, err := t.Section(ctx, span.Start, span.End-span.Start)
	if err != nil {
		return chunker.ID{}, err
	}
	defer r.Close()
	return sumOf(r, t.Flags().Digest())
}

func sumOf(r io.Reader, d chunker.Digest) (chunker.ID, error) {
	h := d.New()
	_, err := image.CopySum(io.Discard, r, h)
	return chunker.ID(h.Sum(nil)), err
}

func noContent(path string) error {
	return fmt.Errorf("entry %q: neither a file nor a directory, so there is nothing to digest", path)
}

// digestFolderEntry packs a folder as far as the entry and digests that.
func digestFolderEntry(ctx context.Context, f *archive.Folder, path string) (chunker.ID, error) {
	at, err := archive.EntriesAt(ctx, f, path)
	if err != nil {
		return chunker.ID{}, err
	}
	defer at.Close()
	h := f.Flags.Digest().New()
	packed, err := archive.NewSubtree(h, f.Flags)
	if err != nil {
		return chunker.ID{}, err
	}
	for n, err := range at.All {
		switch {
		case err != nil:
			return chunker.ID{}, err
		case n.Path == path && n.IsRegular():
			_, err := at.WriteTo(h)
			return chunker.ID(h.Sum(nil)), err
		case n.Path == path && !n.IsDir():
			return chunker.ID{}, noContent(path)
		}
		if err := packed.Add(at, n.Node); err != nil {
			return chunker.ID{}, err
		}
	}
	err = packed.Close()
	return chunker.ID(h.Sum(nil)), err
}
