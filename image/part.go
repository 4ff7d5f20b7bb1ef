package image

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"caravel/chunker"
)

// A Part is a chunk, or many equal ones, of what an image is made of.
type Part struct {
	*chunker.Piece
	Known *Known // nil: nothing is known of it
}

// Known is what an earlier run found out about a chunk, whose bytes are not there.
type Known struct {
	ID    chunker.ID
	Size  int
	State []byte                 // of the stream's digest behind this chunk (encoding.BinaryMarshaler); nil: not known
	Fill  func() ([]byte, error) // gets the bytes; called once at most
}

// size is how many bytes the chunk has.
func (p *Part) size() int {
	if p.Known != nil {
		return p.Known.Size
	}
	return len(p.Plain)
}

// ErrStale is what is said of chunks that are not what was known about them, which the next
// run does without.
var ErrStale = errors.New("not the same as when an image was made of it")

// parts are those of r, if nobody else gives them.
func (m *maker) parts(ctx context.Context, r io.Reader) iter.Seq2[Part, error] {
	if m.opt.Parts != nil {
		return m.opt.Parts
	}
	return func(yield func(Part, error) bool) {
		for p, err := range chunker.Split(ctx, m.source(ctx, r), m.opt.Params, chunker.SplitOptions{}) {
			if !yield(Part{Piece: p}, err) {
				return
			}
		}
	}
}

// bytes are those of a chunk, which are made sure of if they were not there.
func (j *makeJob) bytes(d chunker.Digest) ([]byte, error) {
	k := j.part.Known
	if k == nil {
		return j.part.Plain, nil
	}
	j.once.Do(func() {
		if j.plain, j.failed = k.Fill(); j.failed != nil {
			return
		}
		if got := d.Sum(j.plain); got != k.ID {
			j.failed = fmt.Errorf("image: chunk %v: %w (got %v)", k.ID, ErrStale, got)
		}
	})
	return j.plain, j.failed
}

// A filler fills once, for whoever needs the bytes first.
type filler struct {
	once   sync.Once
	plain  []byte
	failed error
}

// digest sums up the stream, one chunk after the other. What is known at its beginning need not
// be read: the digest goes on from the last state that is known, too.
func (m *maker) digest(ctx context.Context) error {
	if m.opt.NoDigest {
		return nil
	}
	s := summing{m: m}
	for j := range m.stream {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.add(ctx, j); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	if s.row > 0 {
		s.note(s.row-1, true, s.marshal)
	}
	return nil
}

// summing is the digest of the stream, and what is not yet in it.
type summing struct {
	m      *maker
	state  []byte     // where it goes on from; nil: where it is
	behind []*makeJob // chunks behind that
	first  int        // row of the first of these
	bytes  int        // of them all
	row    int
}

// mostBehind is how many bytes wait for the digest, at most, for a chunk that may itself wait for
// memory: beside them there is room for the largest one.
const mostBehind = inFlightBytes / 4

func (s *summing) add(ctx context.Context, j *makeJob) error {
	defer func() { s.row += j.part.Times }()
	k := j.part.Known
	if k == nil {
		err := s.catchUp(ctx)
		if err == nil {
			err = s.write(ctx, j)
		}
		s.m.drop(j)
		s.note(s.row, false, s.marshal)
		return err
	}
	if len(s.behind) == 0 {
		s.first = s.row
	}
	s.behind = append(s.behind, j)
	s.bytes += k.Size
	switch {
	case k.State != nil:
		s.drop()
		s.state = k.State
		s.note(s.row, false, func() []byte { return k.State })
	case s.bytes > mostBehind:
		return s.catchUp(ctx)
	}
	return nil
}

func (s *summing) note(row int, last bool, state func() []byte) {
	if s.m.opt.State != nil {
		s.m.opt.State(row, last, state)
	}
}

// catchUp has all chunks in the digest.
func (s *summing) catchUp(ctx context.Context) error {
	if s.state != nil {
		if err := s.m.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.state); err != nil {
			return fmt.Errorf("image: %w: %w", ErrStale, err)
		}
		s.state = nil
	}
	defer s.drop()
	for i, j := range s.behind {
		if err := s.write(ctx, j); err != nil {
			return err
		}
		s.note(s.first+i, false, s.marshal)
	}
	return nil
}

func (s *summing) write(ctx context.Context, j *makeJob) error {
	plain, err := j.bytes(s.m.opt.Digest)
	if err != nil {
		return err
	}
	for range j.part.Times {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.m.sum.Write(plain)
	}
	return nil
}

// drop lets go of the chunks that are behind.
func (s *summing) drop() {
	for _, j := range s.behind {
		s.m.drop(j)
	}
	clear(s.behind)
	s.behind, s.bytes = s.behind[:0], 0
}

// marshal is the state of the digest.
func (s *summing) marshal() []byte {
	b, err := s.m.sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil // then it is not known
	}
	return b
}
