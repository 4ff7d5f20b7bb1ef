package seed

import (
	"context"
	"fmt"
	"io"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

var _ store.Store = (*Set)(nil)

// Find says where a chunk of the image lies, as far as that is known: Index finds it out.
func (s *Set) Find(id chunker.ID) (sd *Seed, off int64, ok bool) {
	n, off, _, ok := s.table.place(id)
	if !ok {
		return nil, 0, false
	}
	return s.seeds[n], off, true
}

// Get returns a chunk of the image, verified. What is in a seed no more is missing.
func (s *Set) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	sd, c, ok := s.row(want)
	if !ok {
		return nil, &store.MissingError{ID: want.ID, Where: "the seeds"}
	}
	plain, free := store.Buffer(c.Size)
	n, err := sd.ReadAt(plain, c.Start)
	if n < len(plain) {
		free()
		sd.Doubt(cmpEOF(err))
		return nil, &store.MissingError{ID: want.ID, Where: sd.Name}
	}
	got := store.NewStored(want, fmt.Sprintf("%s at %d", sd.Name, c.Start), store.None, plain, free)
	if err := got.Verify(); err != nil {
		got.Release()
		sd.Doubt(nil)
		return nil, &store.MissingError{ID: want.ID, Where: sd.Name}
	}
	return got, nil
}

// cmpEOF is why there are too few bytes.
func cmpEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// Has reports whether a seed had the chunk when it was indexed.
func (s *Set) Has(ctx context.Context, want store.Want) (bool, error) {
	_, _, ok := s.row(want)
	return ok, ctx.Err()
}

// row is where in which seed a wanted chunk lies.
func (s *Set) row(want store.Want) (*Seed, index.Chunk, bool) {
	n, off, row, ok := s.table.place(want.ID)
	if !ok || want.Digest != s.x.Digest() {
		return nil, index.Chunk{}, false
	}
	c := s.x.Chunk(row)
	if want.Size != 0 && want.Size != c.Size {
		return nil, index.Chunk{}, false
	}
	return s.seeds[n], index.Chunk{ID: c.ID, Start: off, Size: c.Size}, true
}
