package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"caravel/archive"
	"caravel/catar/walk"
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
		src, err := o.image(ctx, location)
		if err != nil {
			return nil, err
		}
		return o.indexed(src), nil
	case folderKind:
		return archive.NewFolder(location, pack.archive(), walk.Options{Log: o.log}), nil
	}
	return nil, fmt.Errorf("%s: holds a disk image, not a tree", location)
}

// indexed is the archive of an index that was opened.
func (o *lazyOpener) indexed(src *openedImage) *archive.Indexed {
	return archive.NewIndexed(src.index, src.store, func() archive.Image { return o.cached(src) }, archive.IndexedOptions{
		Workers:   o.opt.workers,
		ReadAhead: o.readAhead(src),
		Log:       o.log,
	})
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
	if strings.Contains(err.Error(), where+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}
