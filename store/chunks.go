package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"caravel/chunker"
)

// Chunks makes a Store of a backend in which chunks lie in the form f.
func Chunks(b Blobs, f Form) Store { return newChunks(b, f) }

// Writable is Chunks for a backend that takes objects (a [Putter]); it is an
// error that matches ErrRefused if b does not.
func Writable(b Blobs, f Form) (Writer, error) {
	p, ok := b.(Putter)
	if !ok {
		return nil, fmt.Errorf("store: %v: can only be read; put the chunks into a directory and copy it: %w", b, ErrRefused)
	}
	if err := f.valid(); err != nil {
		return nil, err
	}
	return &writable{newChunks(b, f), p, f}, nil
}

// chunks finds chunks among the objects of a backend.
type chunks struct {
	blobs  Blobs
	forms  []Form // to look for, in this order
	stat   func(ctx context.Context, name string) (Info, error)
	locate func(name string) string
	lister Lister       // nil: blobs is none
	vain   atomic.Int32 // searches for other keys' chunks in a row that found none
}

func newChunks(b Blobs, f Form) *chunks {
	s := &chunks{blobs: b, forms: f.all(), stat: opened{b}.Stat, locate: opened{b}.Locate}
	s.lister, _ = b.(Lister)
	if st, ok := b.(Statter); ok {
		s.stat = st.Stat
	}
	if l, ok := b.(Locator); ok {
		s.locate = l.Locate
	}
	return s
}

// opened does for any backend what some can do better.
type opened struct{ Blobs }

func (b opened) Stat(ctx context.Context, name string) (Info, error) {
	body, info, err := b.Open(ctx, name, Range{})
	if err != nil {
		return Info{}, err
	}
	return info, body.Close()
}

func (b opened) Locate(name string) string { return b.String() + "/" + name }

func (s *chunks) Get(ctx context.Context, want Want) (*Chunk, error) {
	for i, f := range s.forms {
		c, err := s.read(ctx, want, f)
		if err == nil || !absent(i, err) {
			return c, err
		}
	}
	return nil, s.missing(ctx, want.ID)
}

// absent reports whether an error says that there is no chunk under the name of form i.
// The name of another form than the first may be nonsense to a server that knows one,
// such as a chunk-server: that it refuses it means no more.
func absent(i int, err error) bool {
	return errors.Is(err, ErrMissing) || i > 0 && errors.Is(err, ErrRefused)
}

func (s *chunks) missing(ctx context.Context, id chunker.ID) error {
	where := s.blobs.String()
	if len(s.forms) == 1 {
		where = s.locate(s.forms[0].Name(id))
	}
	return &MissingError{ID: id, Where: where, Why: s.instead(ctx, id)}
}

// read gets the chunk from the object that it is in a store of the form f.
func (s *chunks) read(ctx context.Context, want Want, f Form) (*Chunk, error) {
	name := f.Name(want.ID)
	body, info, err := s.blobs.Open(ctx, name, Range{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	where, limit := s.locate(name), f.Limit(want.Size)
	if info.Size > int64(limit) {
		return nil, &CorruptError{ID: want.ID, Where: where, Err: storedTooLong(limit)}
	}
	buf, err := readAll(body, hint(info.Size, want.Size), limit)
	switch {
	case errors.Is(err, errTooLong):
		return nil, &CorruptError{ID: want.ID, Where: where, Err: storedTooLong(limit)}
	case err != nil:
		return nil, fmt.Errorf("store: chunk %s: %w in %s", want.ID, err, where)
	case int64(len(buf.b)) < info.Size:
		err = fmt.Errorf("store: chunk %s: %w after %d of %d bytes in %s", want.ID, io.ErrUnexpectedEOF, len(buf.b), info.Size, where)
	case len(buf.b) == 0:
		err = &CorruptError{ID: want.ID, Where: where, Err: errors.New("no bytes")}
	}
	if err != nil {
		buf.free()
		return nil, err
	}
	return NewSealed(want, where, f.Key, f.Compression, buf.b, buf.free), nil
}

func storedTooLong(limit int) error {
	return fmt.Errorf("more than the %d bytes that the chunk can take", limit)
}

// hint is how much to have ready for an object that says that it is as long as
// object. Nobody gets more than a little for a mere saying.
func hint(object int64, size int) int {
	const little = 1 << 20
	switch {
	case object < 0 && size > 0:
		return size
	case object < 0:
		return 64 << 10
	case size > 0:
		return int(object) // below the limit, which comes from the index
	}
	return int(min(object, little))
}

func (s *chunks) Has(ctx context.Context, want Want) (bool, error) {
	for i, f := range s.forms {
		info, err := s.stat(ctx, f.Name(want.ID))
		if err == nil && f.plausible(info.Size, want.Size) {
			return true, nil
		}
		if err != nil && !absent(i, err) {
			return false, err
		}
	}
	return false, nil
}

// writable also puts chunks into the backend, in one form.
type writable struct {
	*chunks
	blobs Putter
	form  Form
}

func (s *writable) Put(ctx context.Context, c *Chunk) error {
	if err := c.Verify(); err != nil {
		return err
	}
	return c.Stored(s.form, func(stored []byte) error {
		return s.blobs.Put(ctx, s.form.Name(c.ID()), bytes.NewReader(stored), int64(len(stored)))
	})
}

func (s *writable) Sync(ctx context.Context) error { return s.blobs.Sync(ctx) }
