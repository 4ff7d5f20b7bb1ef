package main

import (
	"context"
	"iter"
	"path"

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
func (e *extraction) tree(ctx context.Context, from *lazyOpener, a archive) (any, error) {
	defer a.Close()
	switch {
	case e.out == "-":
		return nil, usagef("%s: holds a tree, which takes a directory", e.in)
	case e.inPlace:
		return nil, usagef("%s: holds a tree; --in-place is for disk images", e.in)
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

func (e *extraction) whole(ctx context.Context, a archive, opt restore.Options) (restore.Stats, error) {
	if !a.inOrder() {
		opt.Names = func(yield func(string, error) bool) {
			t, err := a.random(ctx)
			if err != nil {
				yield("", err)
				return
			}
			namesBelow(ctx, t, tree.Root)(yield)
		}
	}
	r, err := a.stream(ctx)
	if err != nil {
		return restore.Stats{}, err
	}
	defer r.Close()
	return restore.Tree(ctx, catar.NewDecoder(r, catar.DecoderOptions{}), e.out, opt)
}

func (e *extraction) part(ctx context.Context, a archive, opt restore.Options) (restore.Stats, error) {
	t, err := a.random(ctx)
	if err != nil {
		return restore.Stats{}, err
	}
	at, err := t.Find(ctx, e.path)
	if err != nil {
		return restore.Stats{}, err
	}
	span := t.Span(at.ID)
	e.shown.Total(span.End - span.Start)
	d, r, err := t.decode(ctx, at.ID)
	if err != nil {
		return restore.Stats{}, err
	}
	defer r.Close()
	opt.Names = namesBelow(ctx, t, at.ID)
	return restore.Node(ctx, d, e.out, path.Base(e.path), opt)
}

// namesBelow lists what is below an entry, for who wants to know that before
// it comes.
func namesBelow(ctx context.Context, t *randomArchive, id tree.ID) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for step, err := range t.Walk(ctx, id, -1) {
			if err == nil && step.Path == "" {
				continue
			}
			if !yield(step.Path, err) || err != nil {
				return
			}
		}
	}
}
