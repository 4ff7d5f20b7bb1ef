package archive

import (
	"context"
	"io"

	"caravel/catar/walk"
	"caravel/feature"
	"caravel/store/open"
)

// A Folder is a directory that is packed as it is read.
type Folder struct {
	Path  string
	Flags feature.Flags // of the archive
	opt   walk.Options
	copy  *open.File // of the packed folder; nil before somebody reads here and there
}

// NewFolder is a directory as an archive with flags. Reading it fails with a
// [PackError].
func NewFolder(path string, flags feature.Flags, opt walk.Options) *Folder {
	return &Folder{Path: path, Flags: flags, opt: opt}
}

// InOrder is true: what comes when is known when it is packed.
func (f *Folder) InOrder() bool { return true }

// Skips is false: all is packed.
func (f *Folder) Skips() bool { return false }

// Stream packs the folder.
func (f *Folder) Stream(ctx context.Context) (io.ReadCloser, error) {
	r, err := walk.Open(ctx, f.Path, f.Flags, f.opt)
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
		err = &PackError{err}
	}
	return n, err
}

// WriteTo is the faster way into a file.
func (p packedFolder) WriteTo(w io.Writer) (int64, error) {
	n, err := p.Reader.WriteTo(w)
	if err != nil {
		err = &PackError{err}
	}
	return n, err
}

// A PackError is why a folder could not be packed. It says which file of the
// folder that concerns; where in the archive it was noticed helps nobody.
type PackError struct{ Err error }

func (e *PackError) Error() string { return e.Err.Error() }
func (e *PackError) Unwrap() error { return e.Err }

// Random packs the folder as it is now into a temporary file.
func (f *Folder) Random(ctx context.Context) (*Random, error) {
	if f.copy == nil {
		r, err := f.Stream(ctx)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if f.copy, err = open.At(ctx, "-", open.Options{Stdin: r}); err != nil {
			return nil, err
		}
	}
	return randomFile(ctx, f.copy, f.opt.Log)
}

// Close removes the temporary file.
func (f *Folder) Close() error {
	if f.copy == nil {
		return nil
	}
	return f.copy.Close()
}
