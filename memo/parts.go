package memo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"path/filepath"
	"sync"

	"caravel/catar/walk"
	"caravel/chunker"
	"caravel/image"
)

// splitPath takes a path apart as local wants it.
func splitPath(path string) (dir, name string) { return filepath.Dir(path), filepath.Base(path) }

// Parts cuts the stream r of a directory; payloads is walk.Reader.Payloads, of the same walk.
// With ordered the known chunks are only those before the first one that is not: the
// digest of the stream needs the bytes of all others. It is image.MakeOptions.Parts.
func (m *Memo) Parts(ctx context.Context, r io.Reader, payloads func() []walk.Payload, ordered bool) iter.Seq2[image.Part, error] {
	return func(yield func(image.Part, error) bool) {
		c, err := chunker.NewCutter(m.key.Params)
		if err != nil {
			yield(image.Part{}, err)
			return
		}
		s := &stream{r: r, payloads: payloads, max: m.key.Params.Max, sum: chunker.SHA512_256.New()}
		next, match := 0, len(m.rows) > 0
		for {
			n, err := s.look()
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(image.Part{}, err)
				return
			}
			if n == 0 {
				return
			}
			part, made := image.Part{}, row{anchor: s.anchor()}
			at := -1
			if match {
				at, made.recipe = m.find(s, next, made.anchor, n, ordered)
			}
			if at >= 0 {
				made.size = m.rows[at].size
				part = s.known(m.rows[at], m.stateBehind(at, ordered))
				m.keepState(at, ordered)
				next = at + 1
				m.reused++
			} else {
				match = match && !ordered
				part, err = s.cut(c, n)
				if err == nil {
					made.size = len(part.Plain)
					made.recipe = s.recipe(made.size)
				}
			}
			if err != nil {
				yield(image.Part{}, err)
				return
			}
			if !m.remember(s, made.size) {
				made.recipe = recipe{}
			}
			m.newRows = append(m.newRows, made)
			s.pass(made.size)
			if !yield(part, nil) {
				return
			}
		}
	}
}

// stateBehind is the state of the stream's digest behind a row; nil: it is not remembered.
func (m *Memo) stateBehind(row int, ordered bool) []byte {
	if !ordered {
		return nil
	}
	return m.states[row]
}

// keepState keeps the state behind a known row for a later run with a digest, if this one has
// none, and all up to there is as it was.
func (m *Memo) keepState(row int, ordered bool) {
	if !ordered && row == m.reused && row == len(m.newRows) && m.states[row] != nil {
		m.newState[row] = m.states[row]
	}
}

// tries is how many chunks that begin alike are looked at.
const tries = 4

// find finds the row by whose recipe the stream goes on, where n bytes are to be seen: the next
// one, or unless only that will do one with the anchor; -1: there is none.
func (m *Memo) find(s *stream, next int, anchor uint64, n int, ordered bool) (int, recipe) {
	var candidates []int32
	if next < len(m.rows) && m.rows[next].anchor == anchor {
		candidates = append(candidates, int32(next))
	}
	if !ordered {
		candidates = append(candidates, m.from(anchor)...)
	}
	for _, row := range candidates {
		at, r := int(row), m.rows[row]
		if r.recipe == (recipe{}) || r.size > n {
			continue
		}
		// The last chunk ended with the stream, unless by its size.
		if at == len(m.rows)-1 && r.size < m.key.Params.Max && !(s.ended && r.size == n) {
			continue
		}
		if got := s.recipe(r.size); got == r.recipe {
			return at, got
		}
	}
	return -1, recipe{}
}

// remember takes note of the files in the next n bytes; false if one of them may change
// without showing it.
func (m *Memo) remember(s *stream, n int) bool {
	sure := true
	for _, e := range s.extents {
		if e.Off >= s.off+int64(n) {
			break
		}
		if max(e.Mtime, e.Ctime) >= m.since {
			sure = false
		} else if !e.noted {
			e.noted = true
			m.newFiles = append(m.newFiles, fileSum(e.File))
		}
	}
	return sure
}

// A stream is what is seen of the directory's.
type stream struct {
	r        io.Reader
	payloads func() []walk.Payload
	max      int
	ended    bool

	off     int64  // of what comes next
	buf     []byte // buf[at:] is that, as far as it was read
	at      int
	extents []*extent
	sum     hash.Hash
	scratch []byte
	buffers sync.Pool // of chunks
}

// An extent is a file in the stream. Its bytes before filled are in the stream's buffer, or
// were.
type extent struct {
	walk.Payload
	filled int64
	noted  bool
}

func (e *extent) end() int64 { return e.Off + e.Size }

// readAhead is how much is asked for at one time: walk wants to be asked for much.
const readAhead = 1 << 20

// look makes the largest chunk visible, unless the stream ends before, and returns how many
// bytes of it there are.
func (s *stream) look() (int, error) {
	for len(s.buf)-s.at < s.max && !s.ended {
		if cap(s.buf)-len(s.buf) < readAhead/2 {
			to := s.buf[:0]
			if cap(to) < s.max+4*readAhead { // what is left is moved rarely
				to = make([]byte, 0, s.max+4*readAhead)
			}
			s.buf, s.at = append(to, s.buf[s.at:]...), 0
		}
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		for _, p := range s.payloads() {
			e := &extent{Payload: p}
			if !p.Unread {
				e.filled = p.Size
			}
			s.extents = append(s.extents, e)
		}
		if err == io.EOF {
			s.ended = true
		} else if err != nil {
			return 0, err
		}
	}
	return min(len(s.buf)-s.at, s.max), nil
}

// pass goes on by n bytes.
func (s *stream) pass(n int) {
	s.at += n
	s.off += int64(n)
	for len(s.extents) > 0 && s.extents[0].end() <= s.off {
		s.extents = s.extents[1:]
	}
}

// each calls do for each stretch of the next n bytes: of a file from a place in it on, or
// with nil of what is none.
func (s *stream) each(n int, do func(e *extent, from int64, b []byte)) {
	b, off := s.buf[s.at:s.at+n], s.off
	for _, e := range s.extents {
		if skip := e.Off - off; skip >= int64(len(b)) {
			break
		} else if skip > 0 {
			do(nil, 0, b[:skip])
			b, off = b[skip:], off+skip
		}
		k := min(e.end()-off, int64(len(b)))
		do(e, off-e.Off, b[:k])
		b, off = b[k:], off+k
	}
	if len(b) > 0 {
		do(nil, 0, b)
	}
}

// recipe is that of the next n bytes.
func (s *stream) recipe(n int) recipe {
	s.sum.Reset()
	s.each(n, func(e *extent, from int64, b []byte) {
		s.sum.Write(s.head(e, from, len(b)))
		if e == nil {
			s.sum.Write(b)
		}
	})
	s.scratch = s.sum.Sum(s.scratch[:0])
	return recipe(s.scratch[:len(recipe{})])
}

// head says what a stretch of n bytes is.
func (s *stream) head(e *extent, from int64, n int) []byte {
	b := append(s.scratch[:0], 'b')
	if e != nil {
		b = appendFile(append(s.scratch[:0], 'f'), e.File)
		b = binary.LittleEndian.AppendUint64(b, uint64(from))
	}
	s.scratch = binary.LittleEndian.AppendUint64(b, uint64(n))
	return s.scratch
}

// anchorBytes is how much of what is no file makes an anchor.
const anchorBytes = 64

// anchor is short for what the stream goes on with: where chunks begin alike, their recipes
// tell them apart.
func (s *stream) anchor() (anchor uint64) {
	s.each(min(anchorBytes, len(s.buf)-s.at), func(e *extent, from int64, b []byte) {
		if anchor != 0 {
			return
		}
		if e == nil {
			anchor = shortSum(b)
			return
		}
		anchor = shortSum(s.head(e, from, 0))
	})
	return anchor
}

// known is the chunk of a row, whose bytes are put together when somebody wants them.
func (s *stream) known(r row, state []byte) image.Part {
	var have []byte // what is of no file
	var pieces []gap
	s.each(r.size, func(e *extent, from int64, b []byte) {
		if e != nil {
			pieces = append(pieces, gap{of: &e.Payload, from: from, n: len(b)})
			return
		}
		have = append(have, b...)
		pieces = append(pieces, gap{n: len(b)})
	})
	return image.Part{
		Piece: chunker.NewPiece(nil, nil),
		Known: &image.Known{ID: r.id, Size: r.size, State: state, Fill: func() ([]byte, error) {
			b := make([]byte, r.size)
			rest := b
			for i := range pieces {
				g := &pieces[i]
				g.to, rest = rest[:g.n], rest[g.n:]
				if g.of == nil {
					have = have[copy(g.to, have):]
				}
			}
			return b, fill(pieces)
		}},
	}
}

// piece is the next n bytes, as they are.
func (s *stream) piece(n int) *chunker.Piece {
	b, ok := s.buffers.Get().(*[]byte)
	if !ok {
		b = new([]byte)
	}
	*b = append((*b)[:0], s.buf[s.at:s.at+n]...)
	return chunker.NewPiece(*b, func() { s.buffers.Put(b) })
}

// A gap is n bytes of a file that were not read; without a file it is none.
type gap struct {
	of   *walk.Payload
	from int64
	n    int
	to   []byte
}

// fill reads what is missing.
func fill(gaps []gap) error {
	for _, g := range gaps {
		if g.of == nil {
			continue
		}
		if _, err := g.of.ReadAt(g.to, g.from); errors.Is(err, walk.ErrChanged) {
			return fmt.Errorf("%w: %w", image.ErrStale, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// cut is the chunk that the next n bytes begin with, which are as many as it may have.
func (s *stream) cut(c *chunker.Cutter, n int) (image.Part, error) {
	var gaps []gap
	s.each(n, func(e *extent, from int64, b []byte) {
		if e == nil || from+int64(len(b)) <= e.filled {
			return
		}
		skip := max(e.filled-from, 0)
		gaps = append(gaps, gap{of: &e.Payload, from: from + skip, to: b[skip:]})
		e.filled = from + int64(len(b))
	})
	if err := fill(gaps); err != nil {
		return image.Part{}, err
	}
	return image.Part{Piece: s.piece(c.Next(s.buf[s.at : s.at+n]))}, nil
}
