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
	r, err := walk.Open(ctx, f.path, f.pack.archive(), walk.Options{Log: f.from.log})
	if err != nil {
		return nil, err
	}
	return packedFolder{r}, nil
}

// A packedFolder is the archive of a folder.
type packedFolder struct{ *walk.Reader }

func (p packedFolder) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = &packError{err}
	}
	return n, err
}

// WriteTo is the faster way into a file.
func (p packedFolder) WriteTo(w io.Writer) (int64, error) {
	n, err := p.Reader.WriteTo(w)
	if err != nil {
		err = &packError{err}
	}
	return n, err
}

// A packError is why a folder could not be packed. It says which file of the
// folder that concerns; where in the archive it was noticed helps nobody.
type packError struct{ error }

func (e *packError) Unwrap() error { return e.error }

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
