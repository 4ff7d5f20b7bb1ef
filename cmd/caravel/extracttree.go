package main

import (
	"context"
	"fmt"
	"io"
	"path"

	"caravel/archive"
	"caravel/catar"
	"caravel/catar/restore"
	"caravel/catar/tree"
	"caravel/internal/notify"
	"caravel/listing"
)

// An extractedTree is what JSON says of a tree.
type extractedTree struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Deleted int64 `json:"deleted"`
	Kept    int64 `json:"kept"`
	Linked  int64 `json:"linked"`
	Cloned  int64 `json:"cloned"` // bytes

	Refused []refusal `json:"refused,omitempty"`
}

// A refusal is what could not be done for an entry, with --best-effort.
type refusal struct {
	Path      string `json:"path"`
	PathBytes []byte `json:"path_bytes,omitempty"` // if that is no UTF-8; base64
	Error     string `json:"error"`

	path string // as it is
}

// maxRefusals is how many of them are listed; of the others only the number is said.
const maxRefusals = 10000

// tree extracts an archive, or a part of it.
func (e *extraction) tree(ctx context.Context, from *lazyOpener, a archive.Archive) (any, error) {
	defer a.Close()
	opt, err := e.options(from)
	if err != nil {
		return nil, err
	}
	_ = notify.Send(notify.Ready) // nobody need listen
	if e.dryRun {
		if err := e.plan(ctx, a, opt); err != nil {
			return nil, within(e.in, err)
		}
		return nil, nil
	}
	extract := e.whole
	if e.path != "" {
		extract = e.part
	}
	got, err := extract(ctx, a, opt)
	if err != nil {
		return nil, within(e.in, err)
	}
	return extractedTree{
		Entries: got.Entries, Bytes: got.Bytes, Deleted: got.Deleted,
		Kept: got.Kept, Linked: got.Linked, Cloned: got.Shared,
		Refused: e.refused.list,
	}, nil
}

// checkTree refuses what cannot be done with a tree.
func (e *extraction) checkTree() error {
	switch {
	case e.out == "-":
		return usagef("%s: holds a tree, which takes a directory", e.in)
	case e.inPlace:
		return usagef("%s: holds a tree; --in-place is for disk images", e.in)
	case e.out == "":
		e.out = "."
	}
	return nil
}

func (e *extraction) options(from *lazyOpener) (restore.Options, error) {
	shift, err := e.shift.id()
	opt := restore.Options{
		Mask:          e.mask(),
		Fill:          !e.holes,
		NoSync:        e.noSync,
		UndoImmutable: e.unseal,
		HardLink:      e.hardlink,
		Shift:         shift,
		Share:         e.share,
		Progress:      e.shown.Counter(),
		Log:           from.log,
	}
	if e.effort {
		opt.Refused = e.refused.add
	}
	if e.remove != nil {
		opt.Delete = restore.KeepExtra
		if *e.remove {
			opt.Delete = restore.DeleteExtra
		}
	}
	return opt, err
}

// refusals are those of one run.
type refusals struct {
	list  []refusal
	count int
}

func (r *refusals) add(path string, err error) {
	if r.count++; r.count <= maxRefusals {
		one := refusal{Error: err.Error(), path: path}
		one.Path, one.PathBytes = listing.Path(path)
		r.list = append(r.list, one)
	}
}

func (r *refusals) print(to io.Writer) {
	for _, one := range r.list {
		fmt.Fprintf(to, "%q: %s\n", one.path, one.Error)
	}
	if more := r.count - len(r.list); more > 0 {
		fmt.Fprintf(to, "and %d more\n", more)
	}
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
