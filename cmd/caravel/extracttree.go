package main

import (
	"context"
	"path"

	"caravel/archive"
	"caravel/catar"
	"caravel/catar/restore"
	"caravel/catar/tree"
	"caravel/internal/notify"
)

// An extractedTree is what JSON says of a tree.
type extractedTree struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Deleted int64 `json:"deleted"`
}

// tree extracts an archive, or a part of it.
func (e *extraction) tree(ctx context.Context, from *lazyOpener, a archive.Archive) (any, error) {
	defer a.Close()
	switch {
	case e.out == "-":
		return nil, usagef("%s: holds a tree, which takes a directory", e.in)
	case e.inPlace:
		return nil, usagef("%s: holds a tree; --in-place is for disk images", e.in)
	case e.dryRun:
		return nil, usagef("%s: holds a tree; --dry-run is for disk images", e.in)
	case len(e.seeds.named)+len(e.seeds.folders) > 0:
		return nil, usagef("%s: holds a tree; seeds are for disk images", e.in)
	case e.out == "":
		e.out = "."
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	opt := restore.Options{
		Mask:     e.mask(),
		Fill:     !e.holes,
		NoSync:   e.noSync,
		Progress: e.shown.Counter(),
		Log:      from.log,
	}
	if e.remove != nil {
		opt.Delete = restore.KeepExtra
		if *e.remove {
			opt.Delete = restore.DeleteExtra
		}
	}
	extract := e.whole
	if e.path != "" {
		extract = e.part
	}
	got, err := extract(ctx, a, opt)
	if err != nil {
		return nil, within(e.in, err)
	}
	return extractedTree{got.Entries, got.Bytes, got.Deleted}, nil
}

func (e *extraction) whole(ctx context.Context, a archive.Archive, opt restore.Options) (restore.Stats, error) {
	if !a.InOrder() {
		opt.Names = func(yield func(string, error) bool) {
			t, err := a.Random(ctx)
			if err != nil {
				yield("", err)
				return
			}
			t.Names(ctx, tree.Root)(yield)
		}
	}
	r, err := a.Stream(ctx)
	if err != nil {
		return restore.Stats{}, err
	}
	defer r.Close()
	return restore.Tree(ctx, catar.NewDecoder(r, catar.DecoderOptions{}), e.out, opt)
}

func (e *extraction) part(ctx context.Context, a archive.Archive, opt restore.Options) (restore.Stats, error) {
	t, err := a.Random(ctx)
	if err != nil {
		return restore.Stats{}, err
	}
	at, err := t.Find(ctx, e.path)
	if err != nil {
		return restore.Stats{}, err
	}
	span := t.Span(at.ID)
	e.shown.Total(span.End - span.Start)
	d, r, err := t.Decode(ctx, at.ID)
	if err != nil {
		return restore.Stats{}, err
	}
	defer r.Close()
	opt.Names = t.Names(ctx, at.ID)
	return restore.Node(ctx, d, e.out, path.Base(e.path), opt)
}
