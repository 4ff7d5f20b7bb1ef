package fetch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// fly makes one request after the other, as long as there is one to be made: a
// goroutine that was through it once has the stack that it takes.
func (q *Queue) fly(a *attempt) {
	for a != nil {
		a = q.request(a)
	}
}

// request makes a request. When the answer is here, it goes on as a decoder, of
// what is most urgent, if a core is free. It returns a request that is to be made
// next, if it has nothing to decode.
func (q *Queue) request(a *attempt) (next *attempt) {
	defer q.wg.Done()
	c, found, err := q.answer(a)
	a.cancel(nil)

	q.mu.Lock()
	drop := q.land(a, c, found, err)
	if q.window.clogged && q.demanding(time.Now()) {
		q.makeWay()
	}
	drops := []*store.Chunk{drop}
	q.dispatch()
	if len(q.begun) > 0 {
		// Those whose answer is near come first: then more land together.
		q.unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
	var b decoder
	for {
		q.dispatch()
		q.nextToDecode(&b)
		if len(b.flights) == 0 {
			next = q.firstBegun()
		}
		q.unlock()
		for _, c := range drops {
			if c != nil {
				c.Release()
			}
		}
		if len(b.flights) == 0 {
			return next
		}
		b.check()
		q.mu.Lock()
		drops = q.decoded(&b, drops[:0])
	}
}

// firstBegun takes the first request that has no goroutine yet; nil: all have.
func (q *Queue) firstBegun() *attempt {
	if len(q.begun) == 0 {
		return nil
	}
	a := q.begun[0]
	q.begun = slices.Delete(q.begun, 0, 1)
	return a
}

// answer asks the origin. Where the request was cancelled, the error is why.
func (q *Queue) answer(a *attempt) (c *store.Chunk, found bool, err error) {
	if a.flight.has {
		found, err = q.origin.Has(a.ctx, a.want)
	} else {
		c, err = q.origin.Get(a.ctx, a.want)
	}
	if err != nil && a.ctx.Err() != nil && errors.Is(err, a.ctx.Err()) {
		err = context.Cause(a.ctx)
	}
	return c, found, err
}

// land gives the slot of a back and takes the answer. The chunk that it returns
// is of no use and must be released, outside the lock.
func (q *Queue) land(a *attempt, c *store.Chunk, found bool, err error) (drop *store.Chunk) {
	now, f := time.Now(), a.flight
	i := slices.Index(f.attempts, a)
	if i < 0 && err != nil { // it has made way
		return nil
	}
	if c != nil {
		q.measure(f, a, c, now)
	}
	if i >= 0 {
		q.count(f, -1)
		f.attempts = slices.Delete(f.attempts, i, i+1)
	}
	if f.class == store.Demand && f.fresh {
		q.calm = now.Add(q.window.base)
	}
	switch {
	case f.state == over || f.chunk != nil: // too late
		return c
	case err != nil:
		q.fail(f, err, now)
	case f.has:
		f.found = found
		q.finish(f, nil)
	default:
		if a.hedge {
			q.hedges.won++
		}
		q.unline(f) // it may have made way in vain
		f.chunk, f.state = c, landed
		q.held += int64(c.Came())
		q.landed[f.class].push(f)
		q.arm(f)
	}
	return nil
}

// measure learns from an answer.
func (q *Queue) measure(f *flight, a *attempt, c *store.Chunk, now time.Time) {
	q.window.answered(a.sent, now, q.inFlight())
	q.times.add(now.Sub(f.sent))
	q.sizes.add(f.size, c.Came())
	q.counts[f.class].Stored += int64(c.Came())
}

// A decoder has flights that are decoded and verified together.
type decoder struct {
	flights []*flight
	chunks  []*store.Chunk // theirs
	sizes   []int          // of their plain bytes
	errs    []error
}

// fewAtOnce is how many chunks of background are decoded together: demand that lands then
// waits for a core for half a millisecond.
const fewAtOnce = 8

// nextToDecode hands over the most urgent flights that have landed; none if there are none,
// or no core is free. Where many wait it is several, as their digests are computed faster
// together; else nobody waits for more than his own chunk.
func (q *Queue) nextToDecode(b *decoder) {
	clear(b.flights)
	clear(b.chunks)
	b.flights, b.chunks = b.flights[:0], b.chunks[:0]
	if q.decoding >= q.cores {
		return
	}
	for class := range q.landed {
		line := &q.landed[class]
		if line.n == 0 {
			continue
		}
		most := fewAtOnce
		if store.Class(class) == store.Demand {
			most = chunker.SumsAtOnce
		}
		for range min(max(line.n/q.cores, 1), most) {
			f := line.first
			line.remove(f)
			f.state = decoding
			b.flights = append(b.flights, f)
			b.chunks = append(b.chunks, f.chunk)
		}
		q.decoding++
		return
	}
}

// check decodes and verifies the chunks of the flights, and finds out their plain sizes. It
// is called without the lock: no other goroutine has the chunks.
func (b *decoder) check() {
	b.errs = store.VerifyAll(b.chunks)
	b.sizes = append(b.sizes[:0], make([]int, len(b.chunks))...)
	for i, f := range b.flights {
		if b.errs[i] == nil {
			b.sizes[i], b.errs[i] = f.check()
		}
	}
}

// check makes sure that the verified chunk of f is the one that was wanted, and returns its
// plain size.
func (f *flight) check() (size int, err error) {
	c := f.chunk
	if c.ID() != f.id || c.Digest() != f.digest {
		return 0, &store.CorruptError{ID: f.id, Where: c.Where(), Got: c.ID()}
	}
	plain, err := c.Plain()
	if err == nil && f.size != 0 && len(plain) != f.size {
		err = &store.CorruptError{ID: f.id, Where: c.Where(),
			Err: fmt.Errorf("%d bytes, the index says %d,", len(plain), f.size)}
	}
	return len(plain), err
}

// decoded takes what check said. It appends the chunks that are of no use, and must be
// released outside the lock.
func (q *Queue) decoded(b *decoder, drop []*store.Chunk) []*store.Chunk {
	q.decoding--
	for i, f := range b.flights {
		c, err := f.chunk, b.errs[i]
		q.held -= int64(c.Came())
		if err == nil && f.waiters > 0 && f.state != over {
			q.counts[f.class].Chunks++
			q.counts[f.class].Plain += int64(b.sizes[i])
			q.answered(time.Now())
			q.finish(f, nil)
			continue
		}
		f.chunk = nil
		switch {
		case f.state == over: // the queue was closed
		case f.waiters == 0:
			q.finish(f, errAbandoned)
		default:
			q.fail(f, err, time.Now())
		}
		drop = append(drop, c)
	}
	return drop
}
