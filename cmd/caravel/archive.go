package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"caravel/catar/tree"
)

// An archive is a tree wherever it is: behind an index, in a .catar, or a
// folder that is packed as it is read. It is used by one goroutine.
type archive interface {
	// stream gives the archive from its first byte to its last, once.
	stream(ctx context.Context) (io.ReadCloser, error)

	// random is the archive for reading here and there. What can only be read
	// in order is copied to a temporary file first.
	random(ctx context.Context) (*randomArchive, error)

	// inOrder reports whether it can only be read in order.
	inOrder() bool

	// skips reports whether stream skips what is not wanted for nothing.
	skips() bool

	Close() error
}

// A randomArchive is an archive that is read here and there.
type randomArchive struct {
	*tree.Tree
	lazyBytes
}

// lazyBytes are the bytes of an archive, read where somebody looks.
type lazyBytes interface {
	// section gives n bytes in order, with many requests in flight.
	section(ctx context.Context, off, n int64) (io.ReadCloser, error)

	// file gives a reader of the size bytes at off, which reads ahead if that
	// is of use. Its offsets count from there.
	file(off, size int64) reader
}

// openArchive opens a tree of a kind that is not that of a blob.
func (o *lazyOpener) openArchive(ctx context.Context, location string, k kind, pack packOptions) (archive, error) {
	if k != archiveIndex && o.opt.pin != nil {
		return nil, unpinnable(location)
	}
	switch k {
	case archiveKind:
		return &plainArchive{from: o, where: location}, nil
	case archiveIndex:
		src, err := o.image(ctx, location)
		if err != nil {
			return nil, err
		}
		return &indexedArchive{from: o, src: src}, nil
	case folderKind:
		return &folder{path: location, pack: pack, from: o}, nil
	}
	return nil, fmt.Errorf("%s: holds a disk image, not a tree", location)
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
	var packing *packError
	if errors.As(err, &packing) {
		return packing.error
	}
	if strings.Contains(err.Error(), where+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}

// window is how far a section that is read in order is fetched ahead.
const window = 8 << 20

// hinted bytes can be told what will be read soon.
type hinted interface {
	reader
	Want(off, n int64)
}

// An orderly reads a part of something in order, and says all the time what
// will be next.
type orderly struct {
	ctx      context.Context // of the one who reads
	src      hinted
	off, end int64
	told     int64 // src knows of what lies before this
}

func (r *orderly) Read(p []byte) (int, error) {
	if r.off == r.end {
		return 0, io.EOF
	}
	if ahead := min(r.off+window, r.end); ahead-r.told >= window/2 || r.told < r.end && ahead == r.end {
		r.src.Want(r.told, ahead-r.told)
		r.told = ahead
	}
	if rest := r.end - r.off; int64(len(p)) > rest {
		p = p[:rest]
	}
	n, err := r.src.ReadAt(r.ctx, p, r.off)
	r.off += int64(n)
	switch {
	case n > 0 && errors.Is(err, io.EOF):
		err = nil // the next read finds out whether that was all
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (*orderly) Close() error { return nil }

// A part of an archive is a file of the tree, with offsets of its own.
type part struct {
	reader
	off, size int64
}

func (p part) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if off < 0 || off >= p.size {
		return 0, io.EOF
	}
	rest := p.size - off
	if int64(len(b)) <= rest {
		return p.reader.ReadAt(ctx, b, p.off+off)
	}
	n, err := p.reader.ReadAt(ctx, b[:rest], p.off+off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}
