package fetch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

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
// whatever is most urgent, if a core is free. It returns a request that is to be made
// next, if it has nothing to decode.
func (q *Queue) request(a *attempt) (next *attempt) {
	defer q.wg.Done()
	c, found, err := q.answer(a)
	a.cancel(nil)

	q.mu.Lock()
	var drop []*store.Chunk
	if c := q.land(a, c, found, err); c != nil {
		drop = append(drop, c)
	}
	if q.window.clogged && q.demanding(time.Now()) {
		q.makeWay()
	}
	if q.inFlight() > 0 {
		// Whose answers are here, too, shall land before the first of them is decoded: then
		// there is a batch. Where reading is all but free none would ever wait.
		q.dispatch()
		q.unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
	for {
		q.dispatch()
		batch := q.nextToDecode()
		if batch == nil {
			next = q.firstBegun()
		}
		q.unlock()
		for _, c := range drop {
			c.Release()
		}
		if batch == nil {
			return next
		}
		errs := check(batch)
		q.mu.Lock()
		drop = q.decoded(batch, errs)
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

// atOnce is how many chunks a core decodes at one time, at most: the digests of eight
// take as long as that of one and a half, and none of them waits long for the others.
const atOnce = 8

// nextToDecode are the most urgent flights that have landed, all of one class, and no
// more of them than leave their share to other cores that are free; nil: there is none,
// or no core is free.
func (q *Queue) nextToDecode() (batch []*flight) {
	free := q.cores - q.decoding
	if free <= 0 {
		return nil
	}
	for i := range q.landed {
		line := &q.landed[i]
		for n := min(atOnce, (line.n+free-1)/free); n > 0; n-- {
			f := line.first
			line.remove(f)
			f.state = decoding
			batch = append(batch, f)
		}
		if batch != nil {
			q.decoding++
			return batch
		}
	}
	return nil
}

// check decodes and verifies the chunks of a batch. It is called without the lock: no
// other goroutine has the chunks.
func check(batch []*flight) []error {
	chunks := make([]*store.Chunk, len(batch))
	for i, f := range batch {
		chunks[i] = f.chunk
	}
	errs := store.VerifyAll(chunks)
	for i, f := range batch {
		if errs[i] == nil {
			errs[i] = f.wrong()
		}
	}
	return errs
}

// wrong says what is wrong with a chunk that is what its own ID says.
func (f *flight) wrong() error {
	c := f.chunk
	if c.ID() != f.id || c.Digest() != f.digest {
		return &store.CorruptError{ID: f.id, Where: c.Where(), Got: c.ID()}
	}
	plain, err := c.Plain()
	f.plain = len(plain)
	if err == nil && f.size != 0 && len(plain) != f.size {
		err = &store.CorruptError{ID: f.id, Where: c.Where(),
			Err: fmt.Errorf("%d bytes, the index says %d,", len(plain), f.size)}
	}
	return err
}

// decoded takes what check said. The chunks that it returns are of no use and
// must be released, outside the lock.
func (q *Queue) decoded(batch []*flight, errs []error) (drop []*store.Chunk) {
	q.decoding--
	for i, f := range batch {
		if c := q.verified(f, errs[i]); c != nil {
			drop = append(drop, c)
		}
	}
	return drop
}

func (q *Queue) verified(f *flight, err error) (drop *store.Chunk) {
	c := f.chunk
	q.held -= int64(c.Came())
	if err == nil && f.waiters > 0 && f.state != over {
		q.counts[f.class].Chunks++
		q.counts[f.class].Plain += int64(f.plain)
		q.answered(time.Now())
		q.finish(f, nil)
		return nil
	}
	f.chunk = nil
	switch {
	case f.state == over: // the queue was closed
	case f.waiters == 0:
		q.finish(f, errAbandoned)
	default:
		q.fail(f, err, time.Now())
	}
	return c
}
