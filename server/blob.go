package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"caravel/store"
)

// A blob is an object of a backend, read by io.ReadSeeker's rules.
type blob struct {
	ctx   context.Context // of who reads
	blobs store.Blobs
	name  string
	info  store.Info

	file *os.File      // it; nil: it is none
	off  int64         // of the next byte
	body io.ReadCloser // what is there; nil: not asked for
}

// open opens an object whose size can be told.
func (h *indexes) open(ctx context.Context, name string) (*blob, error) {
	b := &blob{ctx: ctx, blobs: h.blobs, name: name}
	var err error
	if files, ok := h.blobs.(Files); ok {
		b.file, b.info, err = files.File(ctx, name)
		return b, err
	}
	b.body, b.info, err = h.blobs.Open(ctx, name, store.Range{})
	if err == nil && b.info.Size < 0 {
		err = errors.Join(fmt.Errorf("server: %s: how long %s is cannot be told", h.blobs, name), b.body.Close())
	}
	return b, err
}

func (b *blob) Read(p []byte) (n int, err error) {
	if b.file != nil {
		return b.file.Read(p)
	}
	if b.off >= b.info.Size {
		return 0, io.EOF
	}
	if b.body == nil {
		if b.body, _, err = b.blobs.Open(b.ctx, b.name, store.Range{Off: b.off, Tag: b.info.Tag}); err != nil {
			return 0, err
		}
	}
	n, err = b.body.Read(p)
	b.off += int64(n)
	return n, err
}

// Seek moves on; nothing is asked for before the next Read.
func (b *blob) Seek(off int64, whence int) (int64, error) {
	if b.file != nil {
		return b.file.Seek(off, whence)
	}
	switch whence {
	case io.SeekCurrent:
		off += b.off
	case io.SeekEnd:
		off += b.info.Size
	}
	if off < 0 {
		return b.off, fmt.Errorf("server: %s: offset %d", b.name, off)
	}
	if off != b.off && b.body != nil {
		b.body.Close() // what it would say is of no use any more
		b.body = nil
	}
	b.off = off
	return off, nil
}

func (b *blob) Close() error {
	switch {
	case b.file != nil:
		return b.file.Close()
	case b.body != nil:
		return b.body.Close()
	}
	return nil
}

// blobTag tells versions of an object apart. A backend's own tag may hold what no
// header takes.
func blobTag(info store.Info) string {
	if info.Tag == "" {
		return fileTag(info.ModTime, info.Size)
	}
	sum := sha256.Sum256([]byte(info.Tag))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}
