package local

import (
	"context"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"

	"caravel/store"
)

// List gives the names of all objects, folders within folders, without what
// unfinished writers have left there.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return d.listing(ctx, prefix, func(e fs.DirEntry) bool { return !store.Unfinished(e.Name()) && d.lists(e) })
}

// ListAll is List, of all objects, with what writers have left that were killed, and what
// others write at this moment: store.Unfinished tells these by their names.
func (d *Dir) ListAll(ctx context.Context) iter.Seq2[string, error] {
	return d.listing(ctx, "", d.lists)
}

func (d *Dir) listing(ctx context.Context, prefix string, wanted func(fs.DirEntry) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := d.Check(); err != nil {
			yield("", err)
			return
		}
		folder, start := path.Split(prefix)
		folder = path.Clean(folder)
		if !fs.ValidPath(folder) {
			yield("", fail(store.ErrRefused, "local: %s: prefix %q leads elsewhere", d.dir, prefix))
			return
		}
		d.list(ctx, folder, start, wanted, yield)
	}
}

// list gives the names below folder that wanted is for, if its own part of the
// name begins with start. It returns false when it is to be the last.
func (d *Dir) list(ctx context.Context, folder, start string, wanted func(fs.DirEntry) bool, yield func(string, error) bool) bool {
	if ctx.Err() != nil {
		yield("", context.Cause(ctx))
		return false
	}
	entries, err := os.ReadDir(d.Locate(folder))
	if err != nil && !missing(err) {
		yield("", failed(d.Locate(folder), err))
		return false
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		switch {
		case !strings.HasPrefix(e.Name(), start):
		case e.IsDir():
			if !d.list(ctx, name, "", wanted, yield) {
				return false
			}
		case wanted(e):
			if !yield(name, nil) {
				return false
			}
		}
	}
	return true
}

// lists reports whether Open would find the entry of a folder.
func (d *Dir) lists(e fs.DirEntry) bool {
	return e.Type().IsRegular() || d.opt.Follow && e.Type() == fs.ModeSymlink
}
