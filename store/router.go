package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"caravel/chunker"
)

// Router asks stores in order, and the next one where a chunk is missing or
// corrupt, or the store does not work. It verifies what it gets. A store that
// does not work is asked after the others for a while, so that not every chunk
// waits for it. If no store gives the chunk, the error says what each said; it
// matches ErrMissing only if it was missing in all of them. log, which may be
// nil, gets a line when a store ceases to work.
func Router(log *slog.Logger, stores ...Store) Store {
	r := &router{members: make([]*member, len(stores))}
	for i, s := range stores {
		r.members[i] = &member{Store: Verify(s), log: orDiscard(log)}
	}
	return r
}

// How long a store that does not work rests: at first, and at most after it has
// been tried again and again.
const (
	firstRest = 5 * time.Second
	lastRest  = time.Minute
)

type router struct{ members []*member }

func (r *router) Get(ctx context.Context, want Want) (c *Chunk, err error) {
	err = r.ask(ctx, want.ID, func(s Store) error {
		c, err = s.Get(ctx, want)
		return err
	})
	return c, err
}

func (r *router) Has(ctx context.Context, want Want) (bool, error) {
	return found(r.ask(ctx, want.ID, func(s Store) error { return has(ctx, s, want) }))
}

// ask calls f with one store after the other until it returns nil.
func (r *router) ask(ctx context.Context, id chunker.ID, f func(Store) error) error {
	var tried []error
	for m := range r.inOrder {
		err := m.ask(ctx, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		tried = append(tried, err)
	}
	return noneHas(id, tried)
}

// inOrder gives the members that work, and then those that rest.
func (r *router) inOrder(yield func(*member) bool) {
	var resting []*member
	for _, m := range r.members {
		if m.rests() {
			resting = append(resting, m)
		} else if !yield(m) {
			return
		}
	}
	for _, m := range resting {
		if !yield(m) {
			return
		}
	}
}

// A member is a store and how it fares.
type member struct {
	Store
	log *slog.Logger

	mu    sync.Mutex    // guards what follows
	rest  time.Duration // 0: it works
	until time.Time     // end of the rest
}

// rests reports whether others should be asked first. When the rest is over,
// one caller gets a no, to try the store, and all others a yes until it has
// turned out well.
func (m *member) rests() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rest == 0 {
		return false
	}
	now := time.Now()
	if now.Before(m.until) {
		return true
	}
	m.rest = min(2*m.rest, lastRest)
	m.until = now.Add(m.rest)
	return false
}

// ask calls f with the store and learns from what it returns.
func (m *member) ask(ctx context.Context, f func(Store) error) error {
	err := f(m.Store)
	var busy *BusyError
	switch {
	case Final(err):
		m.works()
	case errors.Is(ctx.Err(), context.Canceled): // says nothing of the store
	case errors.As(err, &busy):
		m.fails(min(max(busy.After, firstRest), lastRest), err)
	default:
		m.fails(firstRest, err)
	}
	return err
}

func (m *member) works() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = 0
}

// fails begins a rest unless there is one.
func (m *member) fails(rest time.Duration, err error) {
	m.mu.Lock()
	news := m.rest == 0
	if news {
		m.rest, m.until = rest, time.Now().Add(rest)
	}
	m.mu.Unlock()
	if news {
		m.log.Warn("store does not work, others are asked first", "err", err)
	}
}

// orDiscard is log, or one that says nothing.
func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// answered reports whether a store that returned err works: it gave the chunk,
// or knew that it has none or a bad one.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrMissing) || errors.Is(err, ErrCorrupt)
}

// has is Has with a no that is an error.
func has(ctx context.Context, s Store, want Want) error {
	ok, err := s.Has(ctx, want)
	if err == nil && !ok {
		return &MissingError{ID: want.ID, Where: "one store"}
	}
	return err
}

// found turns the error of has into the result of Has.
func found(err error) (bool, error) {
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	return err == nil, err
}

// noneHas is the error for a chunk that no store gave, for the reasons in
// tried.
func noneHas(id chunker.ID, tried []error) error {
	switch len(tried) {
	case 0:
		return &MissingError{ID: id, Where: "any store: there is none"}
	case 1:
		return tried[0]
	}
	return &noneError{id, tried}
}

// A noneError says what each of several stores said.
type noneError struct {
	id    chunker.ID
	tried []error
}

func (e *noneError) Error() string {
	prefix := "store: chunk " + e.id.String() + ": "
	var b strings.Builder
	for i, err := range e.tried {
		b.WriteString([]string{prefix, "; "}[min(i, 1)])
		b.WriteString(strings.TrimPrefix(err.Error(), prefix))
	}
	return b.String()
}

// Unwrap leaves out the stores that miss the chunk if another one may have it.
func (e *noneError) Unwrap() []error {
	var worse []error
	for _, err := range e.tried {
		if !errors.Is(err, ErrMissing) {
			worse = append(worse, err)
		}
	}
	if len(worse) == 0 {
		return e.tried
	}
	return worse
}
