package local

import (
	"context"
	"fmt"
	"io"
	"time"

	"caravel/store"
)

// Open reads an object. Its Tag is not known.
func (d *Dir) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	path, err := d.path(ctx, name)
	if err != nil {
		return nil, store.Info{}, err
	}
	f, info, err := openFile(path, d.opt.Follow)
	if err != nil {
		return nil, store.Info{}, unreadable(path, err)
	}
	if r.Off < 0 || r.Len < 0 || r.Off > info.Size {
		f.Close()
		return nil, store.Info{}, failed(path, fmt.Errorf("offset %d, length %d: not in its %d bytes", r.Off, r.Len, info.Size))
	}
	d.renew(path, info.ModTime)
	left := info.Size - r.Off
	if r.Len > 0 {
		left = min(left, r.Len)
	}
	return &body{f: f, path: path, off: r.Off, left: left}, info, nil
}

// renew gives an object that is in use the time of now, and reports whether it was due. It
// need not work: others' objects can be read, and a disk that takes no writes.
func (d *Dir) renew(path string, was time.Time) bool {
	due := d.opt.Renew > 0 && time.Since(was) >= d.opt.Renew
	if due {
		_ = touch(path)
	}
	return due
}

// readFile is what a body needs of a file.
type readFile interface {
	io.ReaderAt
	io.Closer
}

// A body is a range of a file. It knows where it ends, which saves the read
// that would say so.
type body struct {
	f         readFile
	path      string
	off, left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left > 0 && len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.f.ReadAt(p[:min(int64(len(p)), b.left)], b.off)
	b.off += int64(n)
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, failed(b.path, io.ErrUnexpectedEOF)
	case err != nil:
		return n, failed(b.path, err)
	}
	return n, nil
}

func (b *body) Close() error { return b.f.Close() }
