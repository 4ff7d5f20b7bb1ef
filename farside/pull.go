package farside

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"caravel/castp"
	"caravel/chunker"
	"caravel/store"
)

// readers is how many chunks are read at one time.
const readers = 8

// A Pull gives what others ask for.
type Pull struct {
	Stores  []store.Store // asked in this order
	Index   io.Reader     // nil: none is offered
	Archive io.Reader     // nil: none is offered
	Log     *slog.Logger  // a chunk that is there and cannot be given; nil: discard
}

// Serve answers until the other side ends, which is no error whenever it does.
func (p Pull) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	return interruptible(ctx, func(ctx context.Context) error { return p.serve(ctx, in, out) })
}

func (p Pull) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	w, r := newWire(out), castp.NewReader(in)
	theirs, err := greet(w, r, p.offers())
	if err == io.EOF {
		return nil
	}
	if err != nil {
		w.abort(err)
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	q := newQueue()
	stop := context.AfterFunc(ctx, q.close)
	defer stop()
	left := errors.New("left")
	g.Go(func() error {
		defer q.close()
		return orElse(p.listen(r, q), left)
	})
	for range readers {
		g.Go(func() error { return p.answer(ctx, w, q) })
	}
	g.Go(func() error { return p.files(w, theirs) })
	// The goroutine that listens ends with the other side, so there is always an error.
	if err := g.Wait(); !errors.Is(err, left) && !errors.Is(err, errGone) {
		w.abort(err)
		return err
	}
	return nil
}

func orElse(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

func (p Pull) offers() (f castp.Flags) {
	if len(p.Stores) > 0 {
		f |= castp.ReadableStore
	}
	if p.Index != nil {
		f |= castp.ReadableIndex
	}
	if p.Archive != nil {
		f |= castp.ReadableArchive
	}
	return f
}

// listen takes requests until the other side ends; then the error is nil.
func (p Pull) listen(r *castp.Reader, q *queue) error {
	for {
		m, err := r.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case m.Type == castp.Goodbye:
			return nil
		case m.Type != castp.Request || len(p.Stores) == 0:
			return unexpected(m)
		}
		q.add(m.IDs, m.Flags&castp.HighPriority != 0)
	}
}

// files sends what was asked for of the files.
func (p Pull) files(w *wire, theirs castp.Flags) error {
	if theirs&castp.PullIndex != 0 {
		if err := sendFile(w, p.Index, castp.Index, castp.IndexEOF); err != nil {
			return err
		}
	}
	if theirs&castp.PullArchive != 0 {
		return sendFile(w, p.Archive, castp.Archive, castp.ArchiveEOF)
	}
	return nil
}

func sendFile(w *wire, from io.Reader, piece, end castp.Type) error {
	buf := make([]byte, castp.Piece)
	for {
		n, err := io.ReadFull(from, buf)
		if err := w.say(func(w *castp.Writer) error { return w.File(piece, buf[:n]) }); err != nil {
			return err
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return w.say(func(w *castp.Writer) error { return w.Bare(end) })
		}
		if err != nil {
			return err
		}
	}
}

// answer gives one chunk after the other.
func (p Pull) answer(ctx context.Context, w *wire, q *queue) error {
	for {
		id, ok := q.next()
		if !ok {
			return nil
		}
		if err := p.give(ctx, w, id, q.idle); err != nil {
			return err
		}
	}
}

// give sends a chunk, or that it is missing. One that is there and damaged is sent as
// it is, for the other side to find out; one that cannot be read or sent at all counts
// as missing, so that it is looked for elsewhere.
func (p Pull) give(ctx context.Context, w *wire, id chunker.ID, last func() bool) error {
	c := p.find(ctx, id)
	if c == nil {
		return w.sayIf(last, func(w *castp.Writer) error { return w.Missing(id) })
	}
	defer c.Release()
	send := func(b []byte) error {
		if len(b) < 1 || len(b) > castp.MaxChunk {
			p.Log.Warn("a chunk cannot be sent", "chunk", id, "size", len(b))
			return w.sayIf(last, func(w *castp.Writer) error { return w.Missing(id) })
		}
		return w.sayIf(last, func(w *castp.Writer) error { return w.Chunk(id, true, b) })
	}
	plain := false
	err := c.AsCame(func(b []byte, packed bool) error {
		if plain = !packed; plain {
			return nil
		}
		return send(b)
	})
	if plain {
		err = c.Stored(store.Form{}, send)
	}
	return err
}

// find is the chunk of the first store that has it; nil: none has.
func (p Pull) find(ctx context.Context, id chunker.ID) *store.Chunk {
	for _, s := range p.Stores {
		c, err := s.Get(ctx, store.Want{ID: id})
		if err == nil {
			return c
		}
		if !errors.Is(err, store.ErrMissing) && ctx.Err() == nil {
			p.Log.Warn("a chunk cannot be given", "chunk", id, "err", err)
		}
	}
	return nil
}
