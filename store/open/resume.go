package open

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"caravel/store"
)

// A resumed is an object that is read through interruptions.
type resumed struct {
	tries // since a byte came
	blobs store.Blobs
	name  string

	body io.ReadCloser // nil before the first answer
	info store.Info
	want store.Range // what was asked for
	have store.Info  // nothing is read of this version; zero: of none
	off  int64       // of the next byte
}

// resume opens an object, or a part of it, to be read whole, unless it is the
// version in have.
func resume(ctx context.Context, b store.Blobs, name string, want store.Range, have store.Info, opt Options) (io.ReadCloser, store.Info, error) {
	r := &resumed{tries: newTries(ctx, opt), blobs: b, name: name, want: want, have: have, off: want.Off}
	if err := r.connect(nil); err != nil {
		return nil, store.Info{}, err
	}
	return r, r.info, nil
}

func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.off += int64(n)
		if n > 0 {
			r.progress()
		}
		switch {
		case err == nil, err == io.EOF, !r.resumable():
			return n, err
		case n > 0:
			return n, nil // the next Read finds the body broken still
		}
		if err := r.connect(err); err != nil {
			return 0, err
		}
	}
}

func (r *resumed) Close() error { return r.body.Close() }

// resumable reports whether a second answer could be told from one about
// another version.
func (r *resumed) resumable() bool {
	return r.off == r.want.Off || r.info.Tag != "" || !r.info.ModTime.IsZero()
}

// connect opens the object where the last body broke, until that works or is of
// no use; err is why it broke, nil at first.
func (r *resumed) connect(err error) error {
	for {
		if err != nil {
			if err = r.rest(err); err != nil {
				return err
			}
		}
		if err = r.try(r.open); err == nil {
			return nil
		}
	}
}

func (r *resumed) open() error {
	rest := store.Range{Off: r.off, Tag: cmp.Or(r.want.Tag, r.info.Tag)}
	if r.want.Len > 0 {
		rest.Len = r.want.Off + r.want.Len - r.off
	}
	body, info, err := r.ask(rest)
	switch {
	case err != nil:
		return err
	case r.body == nil:
		r.body, r.info = body, info
		return nil
	case !sameVersion(r.info, info):
		body.Close()
		return fmt.Errorf("open: %s in %s: %w", r.name, r.blobs, store.ErrChanged)
	}
	r.body.Close() // it is broken
	r.body = body
	return nil
}

// ask is the request for what is missing.
func (r *resumed) ask(rest store.Range) (io.ReadCloser, store.Info, error) {
	if b, ok := r.blobs.(store.Refresher); ok && r.body == nil && r.have != (store.Info{}) {
		return b.Refresh(r.ctx, r.name, rest, r.have)
	}
	return r.blobs.Open(r.ctx, r.name, rest)
}
