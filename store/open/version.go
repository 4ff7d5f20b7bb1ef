package open

import (
	"context"
	"errors"
	"fmt"
	"io"

	"caravel/store"
)

// A version is one version of a file behind a network: every answer must be of
// it.
type version struct {
	blobs store.Blobs
	name  string
	info  store.Info // of the first answer
	opt   Options
}

// begin opens a file with the request for its first n bytes, unless it is the
// version in have. head is nil if there are no ranges to go on with.
func begin(ctx context.Context, b store.Blobs, name string, n int64, have store.Info, opt Options) (v version, head []byte, err error) {
	v = version{blobs: b, name: name, opt: opt}
	body, info, err := resume(ctx, b, name, store.Range{Len: n}, have, opt)
	if err != nil {
		return v, nil, err
	}
	defer body.Close()
	v.info = info
	if info.Size < 0 || info.Whole && info.Size > n {
		return v, nil, nil
	}
	head = make([]byte, min(n, info.Size))
	return v, head, v.whole(body, head, 0)
}

// receive fills p with what is at off, by one request.
func (v *version) receive(ctx context.Context, p []byte, off int64) error {
	want := store.Range{Off: off, Len: int64(len(p)), Tag: v.info.Tag}
	body, info, err := resume(ctx, v.blobs, v.name, want, store.Info{}, v.opt)
	switch {
	case errors.Is(err, store.ErrChanged):
		return fmt.Errorf("%w; open it again to read the new version", err)
	case err != nil:
		return err
	}
	defer body.Close()
	if !sameVersion(v.info, info) {
		return fmt.Errorf("open: %s: %w; open it again to read the new version", v.where(), store.ErrChanged)
	}
	return v.whole(body, p, off)
}

// sameVersion reports whether a later answer is of the same version as the first
// one, as far as that was known. There may be a tag that there was not: a date is
// one only when it is some time ago.
func sameVersion(first, later store.Info) bool {
	return (first.Tag == "" || later.Tag == first.Tag) && later.ModTime.Equal(first.ModTime) &&
		(first.Size < 0 || later.Size == first.Size)
}

// whole fills p from the body of a range that begins at off.
func (v *version) whole(body io.Reader, p []byte, off int64) error {
	n, err := io.ReadFull(body, p)
	switch err {
	case nil:
		return nil
	case io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("open: %s: offset %d: %w", v.where(), off+int64(n), err)
}

// spool fetches all of a file of which there are no ranges.
func (v *version) spool(ctx context.Context) (*File, error) {
	body, info, err := resume(ctx, v.blobs, v.name, store.Range{Tag: v.info.Tag}, store.Info{}, v.opt)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	f, err := spool(ctx, body, v.where())
	if err != nil {
		return nil, err
	}
	f.info.Tag, f.info.ModTime = info.Tag, info.ModTime
	return f, nil
}

// where is the file, for people.
func (v *version) where() string {
	if l, ok := v.blobs.(store.Locator); ok {
		return l.Locate(v.name)
	}
	return v.name + " in " + v.blobs.String()
}
