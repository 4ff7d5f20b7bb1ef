package main

import (
	"context"

	"caravel/archive"
	"caravel/blockcache"
	"caravel/catar/tree"
	"caravel/fusefs"
)

// readingOf is how an image is read of which a kind is known, or not yet.
func (o *lazyOpener) readingOf(k kind) reading {
	if k == blobIndex {
		return o.blobReading()
	}
	return o.treeReading()
}

// mountIndexed mounts the tree of an index.
func (o *lazyOpener) mountIndexed(ctx context.Context, src *openedImage, to *mountPoint) error {
	if o.lazy.toFile() {
		return usagef("%s: holds a tree, whose files are materialised in --cache-dir: say --materialize=yes", src.where)
	}
	a, img := o.indexed(src)
	defer a.Close()
	t, err := a.Random(ctx)
	if err != nil {
		return within(src.where, err)
	}
	open := func(off, size int64) fusefs.Reader { return t.File(off, size) }
	to.opt.Passthrough = -1
	if o.lazy.materialises() {
		to.opt.Passthrough = largeFile
		disk, err := o.placeOnDisk(src)
		if err != nil {
			return err
		}
		files := img().newTreeFiles(disk)
		open = func(off, size int64) fusefs.Reader { return files.open(off, size, t.File(off, size)) }
	}
	part, err := to.part(ctx, t)
	if err != nil {
		return within(src.where, err)
	}
	to.opt.Holes, to.image = img().Holes, overIndex(src)
	m, err := to.tree(ctx, o.traversed(t, img()), open)
	if err != nil {
		return err
	}
	if part == tree.Root {
		img().begin(func(ctx context.Context) error { return o.complete(ctx, t, src) })
	} else {
		span := t.Span(part)
		img().part = blockcache.Range{Off: span.Start, Len: span.End - span.Start}
		img().begin(func(ctx context.Context) error { return completePart(ctx, t, part) })
	}
	return to.serve(ctx, m)
}

// traversed is the tree, of which a part that somebody goes through is fetched
// ahead.
func (o *lazyOpener) traversed(t *archive.Random, img *cachedImage) fusefs.Tree {
	if o.lazy.metered || o.opt.disk.offline {
		return t.Tree
	}
	return archive.NewTraversal(t.Tree, func(dir tree.ID) {
		img.work.Go(func() {
			for _, err := range t.Walk(img.life, dir, -1) {
				if err != nil && img.life.Err() == nil {
					o.log.Debug("not all is fetched ahead of a listing", "image", img.src.where, "err", err)
				}
			}
		})
	})
}

// complete learns, or makes sure of, all names and attributes of a tree. A sidecar
// that an earlier run has compared with this image is not compared again but for
// what is looked at.
func (o *lazyOpener) complete(ctx context.Context, t *archive.Random, src *openedImage) error {
	if src.sidecarState() == "used" && src.Confirmed(treeSuffix) {
		return nil
	}
	err := t.Complete(ctx)
	switch {
	case src.sidecarState() != "used": // else they are counted
		o.heap.add(t.Len(), entryBytes)
	case err == nil:
		src.Confirm(treeSuffix)
	}
	return err
}

// completePart is complete for what is below a directory.
func completePart(ctx context.Context, t *archive.Random, dir tree.ID) error {
	if t.Known() {
		return t.ConfirmBelow(ctx, dir)
	}
	for _, err := range t.Walk(ctx, dir, -1) {
		if err != nil {
			return err
		}
	}
	return nil
}
