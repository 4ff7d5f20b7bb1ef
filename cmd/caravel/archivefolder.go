package main

import (
	"context"
	"io"

	"caravel/catar/walk"
	"caravel/store/open"
)

// A folder is a directory that is packed as it is read.
type folder struct {
	path string
	pack packOptions
	from *lazyOpener
	copy *open.File // of the packed folder; nil before somebody reads here and there
}

func (f *folder) inOrder() bool { return true }
func (f *folder) skips() bool   { return false }

func (f *folder) stream(ctx context.Context) (io.ReadCloser, error) {
	return walk.Open(ctx, f.path, f.pack.archive(), walk.Options{Log: f.from.log})
}

// random packs the folder as it is now.
func (f *folder) random(ctx context.Context) (*randomArchive, error) {
	if f.copy == nil {
		r, err := f.stream(ctx)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if f.copy, err = open.At(ctx, "-", open.Options{Stdin: r}); err != nil {
			return nil, err
		}
	}
	return randomFile(ctx, f.copy, f.from)
}

func (f *folder) Close() error {
	if f.copy == nil {
		return nil
	}
	return f.copy.Close()
}
