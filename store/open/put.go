package open

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"caravel/internal/redact"
	"caravel/store"
)

// Remote reports whether a location is behind a network.
func Remote(location string) bool {
	s, err := schemeOf(location)
	return err == nil && s.remote
}

// Putter opens the folder in which a file is to lie, to write it there, and returns
// the file's name. That something takes files in principle need not mean that it
// takes this one: that shows when it is put.
func Putter(location string, opt Options) (p store.Putter, name string, err error) {
	b, name, err := Object(location, opt)
	if err != nil {
		return nil, "", err
	}
	p, ok := b.(store.Putter)
	if !ok {
		return nil, "", fmt.Errorf("open: %s: nothing can be written there: write into a directory and copy that: %w", redact.URL(location), store.ErrRefused)
	}
	return p, name, nil
}

// Put writes a file whole, in place of what is there, and tries again as Read does.
// The file has its name when all of it is there; what is still to be done that it
// survives a power cut is what Sync of its backend does, and done, too.
func Put(ctx context.Context, location string, content []byte, opt Options) error {
	p, name, err := Putter(location, opt)
	if err != nil {
		return err
	}
	t := newTries(ctx, opt)
	for {
		err = t.try(func() error { return p.Put(ctx, name, bytes.NewReader(content), int64(len(content))) })
		if err == nil {
			return p.Sync(ctx)
		}
		if err = t.rest(err); err != nil {
			return err
		}
	}
}

// PutOnce is Put for what can be read only once, and so is sent only once.
func PutOnce(ctx context.Context, location string, r io.Reader, opt Options) error {
	p, name, err := Putter(location, opt)
	if err != nil {
		return err
	}
	if err := p.Put(ctx, name, r, -1); err != nil {
		return err
	}
	return p.Sync(ctx)
}

// Delete removes a file; one that is not there is no error.
func Delete(ctx context.Context, location string, opt Options) error {
	b, name, err := Object(location, opt)
	if err != nil {
		return err
	}
	d, ok := b.(store.Deleter)
	if !ok {
		return fmt.Errorf("open: %s: nothing can be removed there: %w", redact.URL(location), store.ErrRefused)
	}
	return d.Delete(ctx, name)
}
