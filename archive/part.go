package archive

import (
	"context"
	"io"
)

// A part of an archive is a file of the tree, with offsets of its own.
type part struct {
	Reader
	off, size int64
}

func (p part) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if off < 0 || off >= p.size {
		return 0, io.EOF
	}
	rest := p.size - off
	if int64(len(b)) <= rest {
		return p.Reader.ReadAt(ctx, b, p.off+off)
	}
	n, err := p.Reader.ReadAt(ctx, b[:rest], p.off+off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

// Close ends the read-ahead of who reads the file.
func (p part) Close() error {
	if c, ok := p.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
