package prefetch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// The time between a failure and the next request: it doubles from the one to
// the other while nothing comes.
const (
	shortPause = time.Second
	longPause  = time.Minute
)

// SweepOptions tunes a sweep. The zero value is a good choice.
type SweepOptions struct {
	Bytes    int64            // plain bytes under way; 0: 16 MiB
	Requests int              // chunks under way; 0: 128
	Progress func(SweepStats) // nil: none; called after each chunk, by the goroutine that called Sweep
	Log      *slog.Logger     // nil: discard
}

// SweepStats counts what a sweep has done. Repeated chunks count each time
// that they are looked at.
type SweepStats struct {
	Present int64 // chunks that were there
	Fetched int64 // chunks that came
	Left    int64 // chunks left out: the store has none, a corrupt one, or refuses
	Bytes   int64 // plain bytes of those fetched
}

// Sweep fetches the chunks of x that kept lacks, in disk order and in class
// Sweep, through s: a store.Cache that keeps in kept what it passes on. It
// puts nothing in memory, so it evicts nothing.
//
// It never fails for what a store says. After an error all of it pauses, the
// longer the more of them follow one another, and then asks again; a chunk
// that the store has not, has corrupt, or refuses is left out. The error is
// that of ctx, if that ended before the sweep did.
func Sweep(ctx context.Context, x *index.Index, s, kept store.Store, opt SweepOptions) (SweepStats, error) {
	w := &sweep{
		store:    s,
		kept:     kept,
		bytes:    cmp.Or(opt.Bytes, 16<<20),
		requests: cmp.Or(opt.Requests, 128),
		progress: opt.Progress,
		log:      opt.Log,
		done:     make(chan result),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	var last chunker.ID
	row := 0
	for ; row < x.Len() && ctx.Err() == nil; row++ {
		c := x.Chunk(row)
		if row > 0 && c.ID == last {
			continue // a run of zeros is one chunk many times
		}
		last = c.ID
		w.next(ctx, store.Want{ID: c.ID, Size: c.Size, Digest: x.Digest(), Class: store.Sweep})
	}
	for w.running > 0 {
		w.collect()
	}
	if row < x.Len() || w.cut {
		return w.stats, context.Cause(ctx)
	}
	return w.stats, nil
}

// A sweep belongs to the goroutine that called Sweep, but for pause.
type sweep struct {
	store, kept store.Store
	bytes       int64
	requests    int
	progress    func(SweepStats)
	log         *slog.Logger

	done    chan result
	running int   // goroutines that will send on done
	flight  int64 // plain bytes that they fetch
	cut     bool  // a chunk was given up because the context ended
	stats   SweepStats
	pause   pause
}

// A result is what became of one chunk.
type result struct {
	size int
	end  outcome
}

type outcome uint8

const (
	fetched outcome = iota
	left            // there is none to be had
	cut             // the context ended
)

// next starts to fetch a chunk that is not there, once there is room for it.
func (w *sweep) next(ctx context.Context, want store.Want) {
	// An error means unknown: then it is fetched.
	if ok, err := w.kept.Has(ctx, want); ok && err == nil {
		w.stats.Present++
		w.report()
		return
	}
	for w.running > 0 && (w.running >= w.requests || w.flight+int64(want.Size) > w.bytes) {
		w.collect()
	}
	w.running++
	w.flight += int64(want.Size)
	go func() { w.done <- result{size: want.Size, end: w.fetch(ctx, want)} }()
}

// collect waits for one chunk.
func (w *sweep) collect() {
	r := <-w.done
	w.running--
	w.flight -= int64(r.size)
	switch r.end {
	case fetched:
		w.stats.Fetched++
		w.stats.Bytes += int64(r.size)
	case left:
		w.stats.Left++
	case cut:
		w.cut = true
		return
	}
	w.report()
}

func (w *sweep) report() {
	if w.progress != nil {
		w.progress(w.stats)
	}
}

// fetch gets one chunk, however long it takes.
func (w *sweep) fetch(ctx context.Context, want store.Want) outcome {
	for w.pause.wait(ctx) {
		began := time.Now()
		c, err := w.store.Get(ctx, want)
		if err == nil {
			c.Release()
			w.pause.end()
			return fetched
		}
		if ctx.Err() != nil {
			return cut
		}
		w.log.Debug("sweep pauses", "chunk", want.ID.String(), "err", err)
		w.pause.begin(began, err)
		if store.Final(err) {
			return left
		}
	}
	return cut
}

// A pause holds off the requests of a sweep after failures.
type pause struct {
	mu     sync.Mutex // guards what follows
	until  time.Time
	length time.Duration // of the last one; 0: none since the last success
}

// begin lengthens the pause for a request that began at a time and failed. The
// others that were under way then are the same failure.
func (p *pause) begin(began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if began.Before(p.until) {
		return
	}
	p.length = min(max(2*p.length, shortPause), longPause)
	if busy := (*store.BusyError)(nil); errors.As(err, &busy) {
		p.length = max(p.length, busy.After)
	}
	jitter := time.Duration(rand.Int64N(int64(p.length / 4)))
	p.until = time.Now().Add(p.length + jitter)
}

// end forgets the failures.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.length = 0
}

// wait returns when a request may be made, or false when ctx has ended.
func (p *pause) wait(ctx context.Context) bool {
	for {
		p.mu.Lock()
		rest := time.Until(p.until)
		p.mu.Unlock()
		if rest <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return false
		}
	}
}
