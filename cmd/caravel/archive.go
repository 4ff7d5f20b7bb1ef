package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"caravel/archive"
	"caravel/catar/tree"
	"caravel/catar/walk"
	"caravel/internal/redact"
)

// openArchive opens a tree of a kind that is not that of a blob.
func (o *lazyOpener) openArchive(ctx context.Context, location string, k kind, pack packOptions) (archive.Archive, error) {
	if k != archiveIndex && o.opt.pin != nil {
		return nil, unpinnable(location)
	}
	switch k {
	case archiveKind:
		return archive.NewFile(location, o.where, o.log), nil
	case archiveIndex:
		src, err := o.image(ctx, location, o.treeReading())
		if err != nil {
			return nil, err
		}
		a, _ := o.indexed(src)
		return a, nil
	case folderKind:
		return archive.NewFolder(location, pack.archive(), walk.Options{Log: o.log}), nil
	}
	return nil, fmt.Errorf("%s: holds a disk image, not a tree", location)
}

// treeReading is how the tree of an index is read here and there.
func (o *lazyOpener) treeReading() reading {
	return reading{sides: append(o.opt.treeSide(), o.profileSide()...), once: o.once}
}

// indexed is the archive of an index that was opened, and the image that it is
// read from here and there, begun when somebody does.
func (o *lazyOpener) indexed(src *openedImage) (*archive.Indexed, func() *cachedImage) {
	return o.indexedAs(src, archive.IndexedOptions{
		Sidecar: func(ctx context.Context) *tree.Sidecar { return o.sidecar(ctx, src) },
		Dropped: func(err error) { o.dropSidecar(src, err) },
		Built:   o.keepsSidecar(src),
	})
}

func (o *lazyOpener) indexedAs(src *openedImage, opt archive.IndexedOptions) (*archive.Indexed, func() *cachedImage) {
	img := sync.OnceValue(func() *cachedImage { return o.cache(src) })
	opt.Workers, opt.ReadAhead, opt.Log = o.opt.workers, o.readAhead(src), o.log
	return archive.NewIndexed(src.Index, src.store, func() archive.Image { return img() }, opt), img
}

// unpinnable says that nothing vouches for what is at a location, although the
// user relies on it.
func unpinnable(location string) error {
	return usagef("%s: has no index that --index-digest could be that of", location)
}

// cleanPath is what a user calls an entry as the archive does: "a/b", "" for
// the root.
func cleanPath(p string) string { return path.Clean("/" + p)[1:] }

// within adds to an error where it came from, unless it says so: that of a
// folder names the file.
func within(where string, err error) error {
	var packing *archive.PackError
	if errors.As(err, &packing) {
		return packing.Err
	}
	where = redact.URL(where)
	if strings.Contains(err.Error(), where+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}
