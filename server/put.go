package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"caravel/chunker"
	"caravel/store"
)

// slowest is how many bytes of a body have to come in a second.
const slowest = 64 << 10

// put takes a chunk that a client brings.
func (h *chunks) put(w http.ResponseWriter, r *http.Request, id chunker.ID) {
	if h.opt.Writer == nil {
		refuse(w, http.StatusBadRequest, "nothing can be written here")
		return
	}
	limit := int64(h.opt.Form.Limit(0))
	stored, done, err := h.receive(w, r, limit)
	if errors.Is(err, errTooLong) {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("no chunk has more than %d bytes", limit))
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "the chunk did not come whole")
		return
	}
	defer done()
	if err := h.unpacks.Acquire(r.Context(), 1); err != nil {
		panic(http.ErrAbortHandler) // nobody listens
	}
	defer h.unpacks.Release(1)
	c := store.NewSealed(store.Want{ID: id, Digest: h.opt.Digest}, "", h.opt.Form.Key, h.opt.Form.Compression, stored, nil)
	defer c.Release()
	switch err := h.keep(r.Context(), c); {
	case errors.Is(err, store.ErrCorrupt):
		refuse(w, http.StatusBadRequest, "these bytes are not that chunk")
	case err != nil:
		h.outcome.failed(w, r, err)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// keep stores a chunk, and returns when it is there to stay.
func (h *chunks) keep(ctx context.Context, c *store.Chunk) error {
	if h.opt.Trust {
		c.Trust()
	} else if err := c.Verify(); err != nil {
		return err
	}
	if err := h.opt.Writer.Put(ctx, c); err != nil || h.opt.NoSync {
		return err
	}
	return h.commit.wait(ctx)
}

var errTooLong = errors.New("too long")

// receive reads a body, if there is room for it; done gives the room back.
func (h *chunks) receive(w http.ResponseWriter, r *http.Request, limit int64) (stored []byte, done func(), err error) {
	if r.ContentLength > limit {
		return nil, nil, errTooLong
	}
	room := r.ContentLength
	if room < 0 {
		room = limit
	}
	if err := h.bodies.Acquire(r.Context(), room); err != nil {
		return nil, nil, err
	}
	stored, err = readBody(w, r, limit)
	if err != nil {
		h.bodies.Release(room)
		return nil, nil, err
	}
	return stored, func() { h.bodies.Release(room) }, nil
}

// readBody reads a body that has at most limit bytes, and takes no more memory than
// what comes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	untimed := timed(w, r, limit)
	const little = 64 << 10
	b := make([]byte, 0, min(max(r.ContentLength, little), 16*little)+1)
	for {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(2*int64(cap(b)), limit+1)), b...)
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return nil, errTooLong
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	untimed()
	return b, nil
}

// timed limits the time that a body of at most limit bytes takes. When all of it is
// here, untimed has to be called, or the limit would be one for the store, too; not
// before, as net/http looks at what nobody has read.
func timed(w http.ResponseWriter, r *http.Request, limit int64) (untimed func()) {
	size := r.ContentLength
	if size < 0 {
		size = limit
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(30*time.Second + time.Duration(size/slowest)*time.Second)) // in a test there is no connection
	return func() { _ = control.SetReadDeadline(time.Time{}) }
}

// A committer has many who have written something wait for one sync.
type committer struct {
	sync func(context.Context) error

	mu      sync.Mutex
	next    *commit // that begins after now; nil: nobody waits for one; guarded by mu
	running bool    // guarded by mu
}

type commit struct {
	done chan struct{}
	err  error
}

// wait returns when what was written before is on disk. Others wait for the same, so
// it does not end with ctx.
func (c *committer) wait(ctx context.Context) error {
	c.mu.Lock()
	if c.next == nil {
		c.next = &commit{done: make(chan struct{})}
	}
	mine := c.next
	if !c.running {
		c.running = true
		go c.run(context.WithoutCancel(ctx))
	}
	c.mu.Unlock()
	<-mine.done
	return mine.err
}

// run syncs until nobody waits.
func (c *committer) run(ctx context.Context) {
	for {
		c.mu.Lock()
		now := c.next
		c.next = nil
		c.running = now != nil
		c.mu.Unlock()
		if now == nil {
			return
		}
		now.err = c.sync(ctx)
		close(now.done)
	}
}
