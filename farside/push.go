package farside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"caravel/castp"
	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// A Push takes what others bring.
type Push struct {
	Store  store.Writer  // for the chunks; nil: none are taken
	Others []store.Store // what is in these is not asked for

	// Index and Archive put a file where it belongs, once all of it has come, and
	// return when it is on disk; an error of r means that it is not to be put. nil: none
	// is taken.
	Index, Archive func(ctx context.Context, r io.Reader) error
}

// Serve takes what comes until all is in its place. Where the other side ends before,
// the chunks that came are kept and nothing else.
func (p Push) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	return interruptible(ctx, func(ctx context.Context) error { return p.serve(ctx, in, out) })
}

func (p Push) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &taking{Push: p, wire: newWire(out), in: castp.NewReader(in), asked: map[chunker.ID]bool{}, lost: map[chunker.ID]bool{}}
	err := t.run(ctx)
	if errors.Is(err, errLeft) {
		if err2 := t.sync(ctx); err2 != nil {
			err = err2
		}
	}
	if err == nil {
		return t.wire.say(func(w *castp.Writer) error { return w.Bare(castp.Goodbye) })
	}
	if !errors.Is(err, errLeft) {
		t.wire.abort(err)
	}
	return err
}

// errLeft is an other side that ends before all has come.
var errLeft = errors.New("farside: the other side has ended before its index or archive was whole; chunks that came are kept")

// A taking is one conversation in which things come. Its fields are for the goroutine
// that listens, but for those that follow asked, which the one that reads the index
// uses too.
type taking struct {
	Push
	wire   *wire
	in     *castp.Reader
	theirs castp.Flags
	digest chunker.Digest // of the index; known once a chunk was asked for
	index  *file          // nil: none is to come
	arch   *file

	asked map[chunker.ID]bool // true: and not answered; only read or written between the index's pieces
	lost  map[chunker.ID]bool // the other side has none
	open  int                 // of asked, those that are not answered
	toAsk []chunker.ID        // of asked, those that were not asked for yet
}

func (t *taking) run(ctx context.Context) (err error) {
	t.theirs, err = greet(t.wire, t.in, t.offers())
	if err == io.EOF {
		return errLeft
	}
	if err != nil {
		return err
	}
	if t.theirs&castp.PushIndex != 0 {
		t.index = newFile(ctx, t.Index, t.row)
		defer t.index.drop()
	}
	if t.theirs&castp.PushArchive != 0 {
		t.arch = newFile(ctx, t.Archive, nil)
		defer t.arch.drop()
	}
	for !t.complete() {
		m, err := t.in.Next()
		if err == io.EOF {
			return errLeft
		}
		if err == nil {
			err = t.take(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return t.install(ctx)
}

func (t *taking) offers() (f castp.Flags) {
	if t.Store != nil {
		f |= castp.WritableStore
	}
	if t.Index != nil {
		f |= castp.WritableIndex
	}
	if t.Archive != nil {
		f |= castp.WritableArchive
	}
	return f
}

// complete reports whether all has come that was announced.
func (t *taking) complete() bool {
	files := t.index != nil || t.arch != nil
	return files && t.index.whole() && t.arch.whole() && t.open == 0
}

// take takes a message.
func (t *taking) take(ctx context.Context, m castp.Message) error {
	switch {
	case m.Type == castp.Index && t.index != nil:
		if err := t.index.more(t.in); err != nil {
			return err
		}
		return t.request()
	case m.Type == castp.IndexEOF && t.index != nil:
		return t.index.end()
	case m.Type == castp.Archive && t.arch != nil:
		return t.arch.more(t.in)
	case m.Type == castp.ArchiveEOF && t.arch != nil:
		return t.arch.end()
	case m.Type == castp.Chunk && t.theirs&castp.PushChunks != 0:
		return t.chunk(ctx, m)
	case m.Type == castp.Missing && t.asked[m.IDs[0]]:
		t.answered(m.IDs[0])
		t.lost[m.IDs[0]] = true
		return nil
	case m.Type == castp.Goodbye:
		return errLeft
	}
	return unexpected(m)
}

// row asks for a chunk that the index names, if no store has it.
func (t *taking) row(ctx context.Context, x *index.Index, c index.Chunk) error {
	t.digest = x.Digest()
	_, asked := t.asked[c.ID]
	if t.theirs&castp.PushIndexChunks == 0 || asked {
		return nil
	}
	there, err := t.has(ctx, store.Want{ID: c.ID, Size: c.Size, Digest: t.digest})
	if err != nil || there {
		return err
	}
	t.asked[c.ID] = true
	t.open++
	t.toAsk = append(t.toAsk, c.ID)
	return nil
}

// has reports whether a store has a chunk.
func (t *taking) has(ctx context.Context, want store.Want) (bool, error) {
	if there, err := t.Store.Has(ctx, want); there || err != nil {
		return there, err
	}
	for _, s := range t.Others {
		if there, err := s.Has(ctx, want); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// request asks for what the last piece of the index has named.
func (t *taking) request() error {
	const most = 2000 // of which the message is near 64 KiB, as casync's
	for ids := range slices.Chunk(t.toAsk, most) {
		if err := t.wire.say(func(w *castp.Writer) error { return w.Request(false, ids...) }); err != nil {
			return err
		}
	}
	t.toAsk = t.toAsk[:0]
	return nil
}

// chunk stores a chunk, if it is what its ID says.
func (t *taking) chunk(ctx context.Context, m castp.Message) error {
	id := m.IDs[0]
	compression := store.Zstd // or another: its first bytes tell
	if m.Flags&castp.Compressed == 0 {
		compression = store.None
	}
	data, free := store.Buffer(m.Size)
	if _, err := io.ReadFull(t.in, data); err != nil {
		free()
		return err
	}
	c := store.NewStored(store.Want{ID: id, Digest: t.digest}, "what was sent", compression, data, free)
	defer c.Release()
	if err := t.Store.Put(ctx, c); err != nil {
		return err
	}
	if t.asked[id] {
		t.answered(id)
	}
	return nil
}

func (t *taking) answered(id chunker.ID) {
	t.asked[id] = false
	t.open--
}

// install puts everything into its place.
func (t *taking) install(ctx context.Context) error {
	for id := range t.lost {
		return fmt.Errorf("farside: the index names chunk %v, which is nowhere: %w", id, store.ErrMissing)
	}
	if err := t.sync(ctx); err != nil {
		return err
	}
	if t.arch != nil {
		if err := t.arch.install(); err != nil {
			return err
		}
	}
	if t.index != nil {
		return t.index.install()
	}
	return nil
}

// sync has on disk what came.
func (t *taking) sync(ctx context.Context) error {
	if t.Store == nil {
		return nil
	}
	return t.Store.Sync(ctx)
}
