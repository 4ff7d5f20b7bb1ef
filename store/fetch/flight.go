package fetch

import (
	"context"
	"errors"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// A key tells flights apart. Two indexes that give one chunk different sizes
// have a flight each: at most one is right, and the other must not fail it.
type key struct {
	id     chunker.ID
	digest chunker.Digest
	size   int
	has    bool // asks only whether the chunk is there
}

type state uint8

const (
	queued   state = iota // in the line of its class
	flying                // at least one request is under way
	resting               // waits for the time of its next try
	landed                // its bytes are here and wait for a core
	decoding              // its bytes are in the hands of a decoder
	over                  // f.done is closed, or nobody waits any more
)

// A flight is the fetching of one chunk. Queue.mu guards it, until it is over.
type flight struct {
	key
	class   store.Class // the most urgent of those who wait, or the last of them
	waiters int
	waiting [store.Classes]int // waiters by class
	fresh   bool               // the first of them was demand
	state   state

	prev, next *flight   // in its line
	due        time.Time // when an alarm is needed
	alarm      int       // its place in Queue.alarms, from 1; 0: none

	since    time.Time // when demand first asked for it, or it was first sent; zero: neither
	sent     time.Time // the first request of this try
	hedgeAt  time.Time // when to ask a second time; zero: not at all
	wake     time.Time // end of a rest
	attempts []*attempt
	bytes    int64 // of one request, as guessed
	earned   bool  // its joining by demand has earned a part of a hedge

	tries, stalls int
	spoilt        int   // answers that were corrupt
	last          error // what went wrong last

	done  chan struct{}
	chunk *store.Chunk
	plain int // bytes of the chunk, once it is verified
	found bool
	err   error
}

// An attempt is one request under way.
type attempt struct {
	flight *flight
	ctx    context.Context
	want   store.Want
	sent   time.Time
	until  time.Time // when it counts as stalled; zero: never, or it has
	hedge  bool
	cancel context.CancelCauseFunc
}

var (
	errAbandoned = errors.New("fetch: nobody waits for it any more")
	errOver      = errors.New("fetch: answered by another request")
	errMadeWay   = errors.New("fetch: made way for demand")
)

// join adds a caller to the flight for want.
func (q *Queue) join(want store.Want, has bool) (*flight, error) {
	q.mu.Lock()
	defer q.unlock()
	if q.closed {
		return nil, errClosed
	}
	k := key{want.ID, want.Digest, want.Size, has}
	f := q.flights[k]
	if f == nil {
		f = &flight{key: k, class: want.Class, fresh: want.Class == store.Demand, done: make(chan struct{})}
		f.add(want.Class, 1)
		q.flights[k] = f
		if f.class == store.Demand {
			f.since = time.Now()
		}
		q.enqueue(f)
	} else {
		q.counts[want.Class].Joined++
		f.add(want.Class, 1)
		if want.Class < f.class {
			q.counts[want.Class].Upgraded++
			q.reclass(f)
		}
	}
	q.dispatch()
	return f, nil
}

// leave takes a caller of the class off f, and drops f after the last one. It
// reports false if f is over, and its result the caller's.
func (q *Queue) leave(f *flight, class store.Class) bool {
	q.mu.Lock()
	defer q.unlock()
	if f.state == over {
		return false
	}
	f.add(class, -1)
	switch {
	case f.waiters > 0:
		q.reclass(f)
	case f.state == landed || f.state == decoding:
		// Its bytes are here; another caller may still want them.
		q.counts[class].Cancelled++
	default:
		q.counts[class].Cancelled++
		q.finish(f, errAbandoned)
	}
	q.dispatch()
	return true
}

func (f *flight) add(class store.Class, n int) {
	f.waiting[class] += n
	f.waiters += n
}

// reclass gives f the class of its most urgent caller.
func (q *Queue) reclass(f *flight) {
	class := f.class
	for i, n := range f.waiting {
		if n > 0 {
			class = store.Class(i)
			break
		}
	}
	if class == f.class {
		return
	}
	q.unline(f)
	q.count(f, -len(f.attempts))
	f.class = class
	q.count(f, len(f.attempts))
	if class == store.Demand {
		f.since = time.Now()
	}
	switch f.state {
	case queued:
		q.queued[class].push(f)
	case landed:
		q.landed[class].push(f)
	case resting:
		if class == store.Demand && patience(f.last) == 0 {
			q.enqueue(f)
		}
	case flying:
		if class == store.Demand && !f.earned {
			f.earned = true
			q.hedges.earn()
		}
		q.planHedge(f, f.sent)
	}
	q.arm(f)
}

// enqueue puts f at the end of the line of its class.
func (q *Queue) enqueue(f *flight) {
	f.state = queued
	q.queued[f.class].push(f)
	q.arm(f)
}

// finish ends f with its chunk, or with err, for everyone who waits. Each gets
// a reference to the chunk.
func (q *Queue) finish(f *flight, err error) {
	q.unline(f)
	f.state, f.err = over, err
	delete(q.flights, f.key)
	q.arm(f)
	for _, a := range f.attempts {
		a.cancel(errOver)
	}
	if err == nil && f.chunk != nil {
		for range f.waiters - 1 {
			f.chunk.Retain()
		}
	}
	close(f.done)
}

// unline takes f out of the line that it stands in, if any.
func (q *Queue) unline(f *flight) {
	switch f.state {
	case queued:
		q.queued[f.class].remove(f)
	case landed:
		q.landed[f.class].remove(f)
	}
}
