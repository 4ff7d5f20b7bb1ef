package fetch_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/fetch"
)

// An origin is a store whose answers a test decides. It is asked through a link
// with a latency and a bandwidth.
type origin struct {
	latency time.Duration
	link    link
	deaf    bool // a request that is cancelled is answered all the same

	// get decides the answer to the n-th request (from 1) for a chunk; nil: the
	// chunk.
	get func(ctx context.Context, want store.Want, n int) (*store.Chunk, error)
	has func(want store.Want) (bool, error)

	mu       sync.Mutex
	asked    map[chunker.ID]int
	order    []store.Want
	now, top int
	ended    int // requests whose context was over
	live     int // chunks handed out and not released
}

func (o *origin) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	n := o.enter(want)
	defer o.exit(ctx)
	if o.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if err := o.travel(ctx, want.Size); err != nil {
		return nil, err
	}
	if o.get != nil {
		return o.get(ctx, want, n)
	}
	return o.good(want)
}

func (o *origin) Has(ctx context.Context, want store.Want) (bool, error) {
	o.enter(want)
	defer o.exit(ctx)
	if err := o.travel(ctx, 0); err != nil {
		return false, err
	}
	return o.has(want)
}

func (o *origin) enter(want store.Want) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked == nil {
		o.asked = make(map[chunker.ID]int)
	}
	o.asked[want.ID]++
	o.order = append(o.order, want)
	o.now++
	o.top = max(o.top, o.now)
	return o.asked[want.ID]
}

func (o *origin) exit(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now--
	if ctx.Err() != nil {
		o.ended++
	}
}

// travel takes as long as the way there and back, and the bytes on the link.
func (o *origin) travel(ctx context.Context, size int) error {
	o.mu.Lock()
	latency := o.latency
	o.mu.Unlock()
	if err := sleep(ctx, latency); err != nil {
		return err
	}
	return o.link.carry(ctx, size)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// good is the chunk that want asks for: the bytes of chunk i are i, repeated.
func (o *origin) good(want store.Want) (*store.Chunk, error) {
	known.Lock()
	n, ok := known.number[want.ID]
	known.Unlock()
	if !ok {
		return nil, &store.MissingError{ID: want.ID, Where: "origin"}
	}
	return o.chunk(want, content(n, want.Size)), nil
}

func (o *origin) chunk(want store.Want, b []byte) *store.Chunk {
	o.mu.Lock()
	o.live++
	o.mu.Unlock()
	return store.NewStored(want, "origin/"+want.ID.String()[:4], store.None, b, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.live--
	})
}

func (o *origin) requests(w store.Want) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[w.ID]
}

func (o *origin) total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.order)
}

func content(n, size int) []byte {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(n))
	}
	return b
}

// known remembers which chunk has which number.
var known = struct {
	sync.Mutex
	number map[chunker.ID]int
}{number: make(map[chunker.ID]int)}

const small = 64

// wanted is chunk n of the given size.
func wanted(n, size int, class store.Class) store.Want {
	id := chunker.SHA512_256.Sum(content(n, size))
	known.Lock()
	defer known.Unlock()
	known.number[id] = n
	return store.Want{ID: id, Size: size, Class: class}
}

func want(n int, class store.Class) store.Want { return wanted(n, small, class) }

// get gets the chunk, checks it and releases it.
func get(t *testing.T, q *fetch.Queue, w store.Want) {
	t.Helper()
	if err := tryGet(q, w); err != nil {
		t.Errorf("get %s: %v", w.ID, err)
	}
}

func tryGet(q *fetch.Queue, w store.Want) error {
	c, err := q.Get(context.Background(), w)
	if err != nil {
		return err
	}
	defer c.Release()
	plain, err := c.Plain()
	switch {
	case err != nil:
		return err
	case !c.Verified():
		return errors.New("not verified")
	case chunker.SHA512_256.Sum(plain) != w.ID:
		return fmt.Errorf("wrong bytes for %s", w.ID)
	}
	return nil
}

// checkLive makes sure that every chunk has been released.
func checkLive(t *testing.T, o *origin) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live != 0 {
		t.Errorf("%d chunks were never released", o.live)
	}
	if o.now != 0 {
		t.Errorf("%d requests have not ended", o.now)
	}
}
