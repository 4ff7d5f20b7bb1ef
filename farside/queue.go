package farside

import (
	"sync"

	"caravel/chunker"
)

// waiting is how many chunks may be asked for before no more requests are read: casync
// asks for as many as an index has, and waits for nothing.
const waiting = 1 << 18

// A queue is the chunks that are to be sent, urgent ones first, each once.
type queue struct {
	mu     sync.Mutex // guards what follows
	change sync.Cond
	urgent []chunker.ID
	others []chunker.ID
	queued map[chunker.ID]bool // whether urgent
	closed bool
}

func newQueue() *queue {
	q := &queue{queued: map[chunker.ID]bool{}}
	q.change.L = &q.mu
	return q
}

// add puts chunks behind the others of their kind. One that waits already is moved if
// it has become urgent. It waits while there are too many.
func (q *queue) add(ids []chunker.ID, urgent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queued) > waiting && !q.closed {
		q.change.Wait()
	}
	for _, id := range ids {
		before, there := q.queued[id]
		switch {
		case there && (before || !urgent):
		case urgent: // next passes over the place that it had among the others
			q.queued[id] = true
			q.urgent = append(q.urgent, id)
		default:
			q.queued[id] = false
			q.others = append(q.others, id)
		}
	}
	q.change.Broadcast()
}

// next takes a chunk out, and waits for one.
func (q *queue) next() (id chunker.ID, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		if len(q.urgent) > 0 {
			id, q.urgent = q.urgent[0], q.urgent[1:]
			q.took(id)
			return id, true
		}
		if len(q.others) > 0 {
			id, q.others = q.others[0], q.others[1:]
			if urgent, there := q.queued[id]; !there || urgent {
				continue // it was moved
			}
			q.took(id)
			return id, true
		}
		q.change.Wait()
	}
	return id, false
}

// took forgets a chunk, for a caller that holds the lock.
func (q *queue) took(id chunker.ID) {
	delete(q.queued, id)
	if len(q.queued) == waiting {
		q.change.Broadcast()
	}
}

// idle reports whether nothing waits.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queued) == 0
}

// close ends the waiting.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.change.Broadcast()
}
