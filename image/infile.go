package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"caravel/index"
	"caravel/store"
)

// InFile is the store of an image's chunks in a file or device that holds the image.
// Nothing is verified. name is the file's in errors.
func InFile(r io.ReaderAt, name string, x *index.Index) store.Store {
	return &inFile{r: r, name: name, x: x, rows: x.RowsByID()}
}

type inFile struct {
	r    io.ReaderAt
	name string
	x    *index.Index
	rows []int32 // of x, by ID
}

// row is where a chunk lies.
func (s *inFile) row(want store.Want) (index.Chunk, bool) {
	i, ok := s.x.SearchByID(s.rows, want.ID)
	if !ok {
		return index.Chunk{}, false
	}
	return s.x.Chunk(int(s.rows[i])), true
}

func (s *inFile) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c, ok := s.row(want)
	if !ok {
		return nil, &store.MissingError{ID: want.ID, Where: s.name}
	}
	plain, free := store.Buffer(c.Size)
	if n, err := s.r.ReadAt(plain, c.Start); n < len(plain) {
		free()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("image: %s: ends at %d, in the middle of a chunk at %d: %w", s.name, c.Start+int64(n), c.Start, io.ErrUnexpectedEOF)
		}
		return nil, fmt.Errorf("image: %w", err)
	}
	return store.NewStored(want, fmt.Sprintf("%s at %d", s.name, c.Start), store.None, plain, free), nil
}

func (s *inFile) Has(ctx context.Context, want store.Want) (bool, error) {
	_, ok := s.row(want)
	return ok, ctx.Err()
}
