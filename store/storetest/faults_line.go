package storetest

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// lineChunk is the size of chunks on lines: more than what is said besides.
const lineChunk = 512 << 10

// A use is what somebody does with a store when a line breaks.
type use struct {
	name string
	up   bool // most bytes go to the server
	do   func(ctx context.Context, t testing.TB, s Opened, new []byte) error
}

// uses are a read of a chunk that is there, and a write of a new one.
func (f *faults) uses(t *testing.T) (there []byte, uses []use) {
	there = noise(500, lineChunk)
	f.plant(t, there)
	return there, []use{
		{"read", false, func(ctx context.Context, t testing.TB, s Opened, _ []byte) error { return get(ctx, t, s, there) }},
		{"write", true, func(ctx context.Context, _ testing.TB, s Opened, new []byte) error { return write(ctx, s, new) }},
	}
}

// most is how much one connection carries during a use, in the direction of the chunk.
func (f *faults) most(t *testing.T, u use) int64 {
	t.Helper()
	line := f.Line(t)
	s := f.Open(t, Way{Address: line.Address()})
	if err := u.do(t.Context(), t, s, f.fresh()); err != nil {
		t.Fatalf("%s over a whole line: %v", u.name, err)
	}
	most, down := line.Carried()
	if !u.up {
		most = down
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if most < lineChunk {
		t.Fatalf("%s: the line has carried %d bytes at most", u.name, most)
	}
	return most
}

// places are where a line can break during a use: at once, in the middle of the chunk, in
// what comes before it, and close to its end; few where it takes long to connect.
func places(kind BreakKind, up bool, most int64, few bool) (breaks []Break) {
	at := []int64{0, most / 2, 150, 30, 3000, most - 4000}
	if few || kind == Stall { // each of which takes its time
		at = at[:3]
	}
	for _, after := range at {
		breaks = append(breaks, Break{kind, up, after})
	}
	return breaks
}

// line breaks lines to the server, in each way and at many places, under a reader and
// under a writer.
func (f *faults) line(t *testing.T) {
	t.Run("between", f.between)
	there, uses := f.uses(t)
	for _, u := range uses {
		t.Run(u.name, func(t *testing.T) {
			most := f.most(t, u)
			breaks := []Break{{Kind: Refuse, Up: u.up}}
			for _, kind := range []BreakKind{Stall, Reset, Cut} {
				breaks = append(breaks, places(kind, u.up, most, f.Stall > 0)...)
			}
			all(breaks, func(_ int, b Break) { f.broken(t, u, b, there) })
			f.wantRight(t)
		})
	}
}

// between loses the line after a chunk was taken, and before it was said to be kept: it is
// there when that is.
func (f *faults) between(t *testing.T) {
	line, plain := f.Line(t), f.fresh()
	s := f.open(t, Way{Address: line.Address()})
	c := store.NewChunk(Want(plain).ID, chunker.SHA512_256, plain, nil)
	err := s.Put(t.Context(), c)
	c.Release()
	if err != nil {
		t.Fatal(err)
	}
	line.Break(Break{Kind: Refuse})
	if err := s.Sync(t.Context()); err != nil {
		wantPassing(t, "Sync", err, s.Where)
	}
	line.Mend()
	insist(t, "Sync", func() error { return s.Sync(t.Context()) })
	works(t, s, plain, nil)
}

// broken is one use over one line that breaks.
func (f *faults) broken(t *testing.T, u use, b Break, there []byte) {
	what, new := u.name+", "+b.String(), f.fresh()
	line := f.Line(t)
	way := Way{Address: line.Address()}
	if b.Kind == Stall {
		way.Stall = cmp.Or(f.Stall, 2*time.Second)
	}
	s := f.open(t, way)
	struck := line.Break(b)
	for deadline := time.Now().Add(time.Minute); ; {
		err := error(nil)
		promptly(t, what, func() { err = u.do(t.Context(), t, s, new) })
		if err != nil {
			wantPassing(t, what, err, s.Where)
			wantKind(t, what, err, nil)
		}
		select {
		case <-struck:
		default:
			if err != nil && b.Kind != Refuse && b.sure() && time.Now().Before(deadline) {
				continue // where all is slow, it may fail before it comes to that
			}
		}
		if err == nil && b.sure() {
			t.Errorf("%s: nobody has noticed", what)
		}
		break
	}
	line.Mend()
	insist(t, what+", mended", func() error { return u.do(t.Context(), t, s, new) })
	works(t, s, there, nil)
	// What is worth another try is tried again, until it goes.
	line.Break(Break{Kind: Refuse})
	seen := &counted{Store: s, first: make(chan struct{})}
	again := make(chan error, 1)
	go func() { again <- get(t.Context(), t, store.Retry(seen, time.Minute), there) }()
	select {
	case <-seen.first:
	case <-time.After(time.Minute):
		t.Errorf("%s: a reader hangs where there is no server", what)
	}
	line.Mend()
	if err := <-again; err != nil {
		t.Errorf("%s: with retries: %v", what, err)
	}
}

// fresh is a chunk that was never there.
func (f *faults) fresh() []byte { return noise(10_000+f.made.Add(1), lineChunk) }

// sure reports whether every use comes to the break, whatever else is said on the way.
func (b Break) sure() bool {
	return b.After == 0 || b.After > lineChunk/3 && b.After < lineChunk*2/3
}

// counted tells when it has failed first.
type counted struct {
	store.Store
	told  bool
	first chan struct{} // closed then
}

func (c *counted) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	chunk, err := c.Store.Get(ctx, want)
	if err != nil && !c.told {
		c.told = true
		close(c.first)
	}
	return chunk, err
}

// cancel has readers and writers leave in every state: while there is no answer to a
// connection, in what comes before the chunk, and in the middle of it.
func (f *faults) cancel(t *testing.T) {
	there, uses := f.uses(t)
	for _, u := range uses {
		t.Run(u.name, func(t *testing.T) {
			all(places(Stall, u.up, f.most(t, u), false), func(_ int, b Break) { f.cancelled(t, u, b, there) })
			f.wantRight(t)
		})
	}
}

func (f *faults) cancelled(t *testing.T, u use, b Break, there []byte) {
	what, new := u.name+", "+b.String(), f.fresh()
	line := f.Line(t)
	s := f.open(t, Way{Address: line.Address(), Stall: 10 * time.Minute})
	struck := line.Break(b)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	over := make(chan error, 1)
	go func() { over <- u.do(ctx, t, s, new) }()
	select {
	case <-struck:
		cancel(gone)
	case err := <-over: // it was never that much
		if err != nil || b.sure() {
			t.Errorf("%s: %v", what, err)
		}
		return
	case <-time.After(time.Minute):
		t.Errorf("%s: it never comes to that", what)
		return
	}
	select {
	case err := <-over:
		if !errors.Is(err, gone) || store.Final(err) {
			t.Errorf("%s: got %v, want %v", what, err, gone)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s: who leaves has to wait", what)
	}
	line.Mend()
	works(t, s, there, nil)
	insist(t, what+", again", func() error { return u.do(t.Context(), t, s, new) })
}
