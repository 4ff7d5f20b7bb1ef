package open

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"caravel/store"
)

// A File is read at any offset. Its methods may be called from many goroutines.
//
// A file behind a network is read in blocks, as ranges; nothing vouches for its
// bytes. What comes from a pipe, or from a server that gives no ranges, is first
// copied to a file without a name in the folder for temporary ones.
type File struct {
	readerAt
	where string // for people
	info  store.Info
}

// A readerAt is what a File reads from.
type readerAt interface {
	// ReadAt reads by the rules of io.ReaderAt. The error of a part concerns
	// this part only, and the next read tries again.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)

	// Want is a hint: these bytes will be read soon. It does not wait.
	Want(off, n int64)

	// Has reports whether the byte at off is here, and where that stops being
	// true.
	Has(off int64) (here bool, end int64)

	// Close ends all that is under way.
	Close() error
}

// Size is the file's length in bytes when it was opened.
func (f *File) Size() int64 { return f.info.Size }

// Info is what was known of the file when it was opened, to tell later whether
// it has changed.
func (f *File) Info() store.Info { return f.info }

// At opens a file to be read here and there: a path (of a pipe too), - or a
// URL.
func At(ctx context.Context, location string, opt Options) (*File, error) {
	if f, err := atHere(ctx, location, opt); f != nil || err != nil {
		return f, err
	}
	b, name, err := Object(location, opt)
	if err != nil {
		return nil, err
	}
	return atRemote(ctx, b, name, opt)
}

// atHere opens standard input, or a file of this machine; nil if a location is
// neither.
func atHere(ctx context.Context, location string, opt Options) (*File, error) {
	if location == "-" {
		return atStdin(ctx, opt.Stdin)
	}
	s, err := schemeOf(location)
	if err != nil || s.path == nil {
		return nil, err
	}
	path, err := s.path(location)
	if err != nil {
		return nil, err
	}
	return atPath(ctx, path)
}

func atStdin(ctx context.Context, stdin io.Reader) (*File, error) {
	if stdin == nil {
		stdin = os.Stdin
	}
	f, ok := stdin.(*os.File)
	if !ok {
		return spool(ctx, stdin, "-")
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return spool(ctx, f, "-")
	}
	start, err := f.Seek(0, io.SeekCurrent) // somebody may have read some of it
	if err != nil {
		return nil, fmt.Errorf("open: -: %w", err)
	}
	n := max(st.Size()-start, 0)
	return &File{readerAt: onDisk{io.NewSectionReader(f, start, n), io.NopCloser(nil), n}, where: "-", info: store.Info{Size: n}}, nil
}

func atPath(ctx context.Context, path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open: %s: %w", path, store.ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	info, err := describe(f)
	if err != nil {
		defer f.Close()
		return nil, err
	}
	if info.Size < 0 {
		defer f.Close()
		return spool(ctx, f, path)
	}
	return &File{readerAt: onDisk{f, f, info.Size}, where: path, info: info}, nil
}

// describe is what there is to know of a file or block device; the size of
// what has none is -1.
func describe(f *os.File) (store.Info, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return store.Info{}, err
	case st.IsDir():
		return store.Info{}, fmt.Errorf("open: %s: a folder, not a file", f.Name())
	case st.Mode().IsRegular():
		return store.Info{Size: st.Size(), ModTime: st.ModTime()}, nil
	case st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
		size, err := f.Seek(0, io.SeekEnd)
		return store.Info{Size: size}, err
	}
	return store.Info{Size: -1}, nil
}

// spool copies what can only be read once.
func spool(ctx context.Context, r io.Reader, name string) (*File, error) {
	f, err := os.CreateTemp("", "caravel-spool-")
	if err != nil {
		return nil, fmt.Errorf("open: %s: %w", name, err)
	}
	_ = os.Remove(f.Name()) // what cannot be removed now is at least found by its name
	if c, ok := r.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { c.Close() }) // ends a read that waits
		defer stop()
	}
	n, err := io.Copy(f, r)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		f.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("open: %s: %w", name, err)
	}
	return &File{readerAt: onDisk{f, f, n}, where: name, info: store.Info{Size: n}}, nil
}

// onDisk is a file of this machine.
type onDisk struct {
	io.ReaderAt
	io.Closer
	size int64
}

func (d onDisk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return d.ReaderAt.ReadAt(p, off)
}

func (onDisk) Want(int64, int64) {}

func (d onDisk) Has(int64) (bool, int64) { return true, d.size }
