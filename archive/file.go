package archive

import (
	"context"
	"io"
	"log/slog"
	"os"

	"caravel/blockcache"
	"caravel/catar/tree"
	"caravel/prefetch"
	"caravel/store/open"
)

// A File is a .catar.
type File struct {
	where string
	opt   open.Options
	log   *slog.Logger
	file  *open.File // nil before somebody reads here and there
}

// NewFile is the .catar at a location: a path, a URL, or "-" for opt.Stdin.
// Nothing is opened yet.
func NewFile(location string, opt open.Options, log *slog.Logger) *File {
	return &File{where: location, opt: opt, log: log}
}

// InOrder is true of a pipe.
func (a *File) InOrder() bool {
	st, err := os.Stat(a.where)
	if a.where == "-" {
		f, ok := a.opt.Stdin.(*os.File)
		if !ok {
			return true
		}
		st, err = f.Stat()
	}
	return err == nil && !st.Mode().IsRegular()
}

// Skips is true of a file of this machine.
func (a *File) Skips() bool {
	st, err := os.Stat(a.where)
	return err == nil && st.Mode().IsRegular()
}

// Stream opens the file.
func (a *File) Stream(ctx context.Context) (io.ReadCloser, error) {
	if a.where == "-" && !a.InOrder() {
		// Who reads on from here would move where reading here and there begins.
		f, err := a.opened(ctx)
		if err != nil {
			return nil, err
		}
		return fileBytes{f}.section(ctx, 0, f.Size())
	}
	r, _, err := open.Reader(ctx, a.where, a.opt)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { r.Close() }) // ends a read that waits for a pipe
	return r, nil
}

// Random is the archive for reading here and there: a pipe is copied first.
func (a *File) Random(ctx context.Context) (*Random, error) {
	f, err := a.opened(ctx)
	if err != nil {
		return nil, err
	}
	return randomFile(ctx, f, a.log)
}

// opened is the file, opened for reading here and there.
func (a *File) opened(ctx context.Context) (_ *open.File, err error) {
	if a.file == nil {
		a.file, err = open.At(ctx, a.where, a.opt)
	}
	return a.file, err
}

// Close closes what Random opened.
func (a *File) Close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// randomFile is an archive in an opened file.
func randomFile(ctx context.Context, f *open.File, log *slog.Logger) (*Random, error) {
	t, err := tree.Open(ctx, f, f.Size(), tree.Options{Want: f.Want, Log: log})
	if err != nil {
		return nil, err
	}
	return &Random{Tree: t, bytes: fileBytes{f}}, nil
}

type fileBytes struct{ *open.File }

func (f fileBytes) section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return &orderly{ctx: ctx, src: f.File, off: off, end: off + n, told: off}, nil
}

func (f fileBytes) file(off, size int64) Reader {
	return part{prefetch.NewReader(endingFile{f.File, off + size}, fileAhead(f), prefetch.Options{}), off, size}
}

// An endingFile is one of which nobody shall read behind an offset.
type endingFile struct {
	*open.File
	end int64
}

func (e endingFile) Size() int64 { return e.end }

// fileAhead is a file as it takes the hints of read-ahead.
type fileAhead struct{ *open.File }

func (f fileAhead) Want(ranges ...blockcache.Range) {
	for _, r := range ranges {
		f.File.Want(r.Off, r.Len)
	}
}

func (f fileAhead) State(off int64) (blockcache.State, int64) {
	here, end := f.Has(off)
	if here {
		return blockcache.Resident, end
	}
	return blockcache.Absent, end
}
