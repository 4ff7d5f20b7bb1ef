package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"caravel/chunker"
)

// FailoverOptions tunes Failover. The zero value is a good choice.
type FailoverOptions struct {
	// Patience is how long a store may take for an answer that somebody waits for,
	// until another one is asked besides; 0: 10 s; < 0: as long as it likes.
	Patience time.Duration

	Log *slog.Logger // gets a line when another store becomes the first to ask; nil: discard
}

// Failover takes stores for copies of one another: it asks one until that does
// not work, and then another. A chunk that is missing or corrupt in one is
// taken from another without leaving the first. It verifies what it gets. If no
// store gives the chunk, the error says what each said; it matches ErrMissing
// only if it was missing in all of them.
//
// A store that does not answer at all is left once another one has answered what it
// was silent about, and then for all that it still owes.
func Failover(opt FailoverOptions, stores ...Store) Store {
	f := &failover{stores: make([]Store, len(stores)), log: orDiscard(opt.Log), patience: cmp.Or(opt.Patience, 10*time.Second),
		left: make(chan struct{})}
	for i, s := range stores {
		f.stores[i] = Verify(s)
	}
	return f
}

type failover struct {
	stores   []Store
	log      *slog.Logger
	patience time.Duration

	mu     sync.Mutex    // guards what follows
	active int           // the number of the one to ask first
	left   chan struct{} // closed when another one becomes that
}

func (f *failover) Get(ctx context.Context, want Want) (*Chunk, error) {
	get := func(ctx context.Context, s Store) (*Chunk, error) { return s.Get(ctx, want) }
	return ask(ctx, f, want, get, (*Chunk).Release)
}

func (f *failover) Has(ctx context.Context, want Want) (bool, error) {
	_, err := ask(ctx, f, want, func(ctx context.Context, s Store) (struct{}, error) { return struct{}{}, has(ctx, s, want) }, nil)
	return found(err)
}

// An asking is one call's way through the stores of a group.
type asking[T any] struct {
	f       *failover
	ctx     context.Context
	id      chunker.ID
	call    func(ctx context.Context, s Store) (T, error)
	first   int
	begun   int // stores that were asked
	waiting int // those that have not answered
	answers chan reply[T]
	settled bool // it is known who is to be asked first from now on
	tried   []error
}

// A reply is what a store said.
type reply[T any] struct {
	at  int // its number
	got T
	err error
}

// ask calls call with one store after the other until it returns no error. It stays
// with the first one that works. drop is for what comes too late.
func ask[T any](ctx context.Context, f *failover, want Want, call func(context.Context, Store) (T, error), drop func(T)) (got T, err error) {
	if ctx.Err() != nil {
		return got, context.Cause(ctx)
	}
	each, cancel := context.WithCancel(ctx)
	defer cancel()
	first, left := f.begin()
	a := &asking[T]{f: f, ctx: each, id: want.ID, call: call, first: first, answers: make(chan reply[T], len(f.stores))}
	defer func() { a.abandon(drop) }()
	patience := newPatience(f.patience, want.Class)
	defer patience.stop()
	a.next()
	for a.waiting > 0 {
		select {
		case r := <-a.answers:
			a.waiting--
			if r.err == nil {
				a.settle(r.at)
				return r.got, nil
			}
			if ctx.Err() != nil {
				return got, a.cut(ctx, r.err)
			}
			a.failed(r)
		case <-patience.over():
			a.next()
			patience.again()
		case <-left: // who was asked is silent for others, too
			left = nil
			a.next()
		case <-ctx.Done():
			return got, a.cut(ctx, fmt.Errorf("no answer: %w", context.Cause(ctx)))
		}
	}
	return got, noneHas(want.ID, a.tried)
}

// begin is the number of the store to ask first, and what is closed when it is left.
func (f *failover) begin() (int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active, f.left
}

// next asks the next store, if there is one.
func (a *asking[T]) next() {
	if a.begun == len(a.f.stores) {
		return
	}
	at := (a.first + a.begun) % len(a.f.stores)
	a.begun++
	a.waiting++
	go func() {
		got, err := a.call(a.ctx, a.f.stores[at])
		a.answers <- reply[T]{at, got, err}
	}()
}

// failed takes the answer of a store that has not given the chunk.
func (a *asking[T]) failed(r reply[T]) {
	if answered(r.err) {
		a.settle(r.at)
	}
	a.tried = append(a.tried, r.err)
	a.next()
}

// settle makes the first store that works the first to be asked.
func (a *asking[T]) settle(at int) {
	if a.settled {
		return
	}
	a.settled = true
	if at != a.first {
		a.f.leave(a.first, at, cmp.Or(cmp.Or(a.tried...), fmt.Errorf("store: chunk %s: no answer", a.id)))
	}
}

// cut ends the asking with ctx: a store that has used up all the time is not asked first
// again.
func (a *asking[T]) cut(ctx context.Context, why error) error {
	if !a.settled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		a.f.leave(a.first, (a.first+a.begun)%len(a.f.stores), why)
	}
	return context.Cause(ctx)
}

// abandon has nobody wait for the stores that have not answered.
func (a *asking[T]) abandon(drop func(T)) {
	if a.waiting == 0 || drop == nil {
		return
	}
	go func() {
		for range a.waiting {
			if r := <-a.answers; r.err == nil {
				drop(r.got)
			}
		}
	}()
}

// leave makes another store the first to ask, because of err.
func (f *failover) leave(first, next int, err error) {
	f.mu.Lock()
	news := f.active == first && next != first
	if news {
		f.active = next
		close(f.left)
		f.left = make(chan struct{})
	}
	f.mu.Unlock()
	if news {
		f.log.Warn("store does not work, another takes its place", "err", err)
	}
}

// A patience is over when a store has had its time. What nobody waits for may stand in
// line for as long as it takes.
type patience struct {
	d     time.Duration
	timer *time.Timer // nil: it never is
}

func newPatience(d time.Duration, class Class) *patience {
	p := &patience{d: d}
	if d > 0 && class == Demand {
		p.timer = time.NewTimer(d)
	}
	return p
}

func (p *patience) over() <-chan time.Time {
	if p.timer == nil {
		return nil
	}
	return p.timer.C
}

func (p *patience) again() { p.timer.Reset(p.d) }

func (p *patience) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
