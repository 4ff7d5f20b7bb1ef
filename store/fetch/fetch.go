// Package fetch is the queue in front of an origin: one for all images of a
// process and for everything that reads, so that a chunk that many want at
// once is fetched once, and what somebody waits for goes first.
//
//	q := fetch.New(store.Chunks(web, store.Form{}), fetch.Options{Log: log})
//	defer q.Close()
//	c, err := q.Get(ctx, store.Want{ID: id, Size: size, Class: store.Demand})
//
// A flight is the fetching of one chunk, whoever waits for it. It is queued in
// the line of the most urgent class among its callers, asks the origin, rests
// before it asks again where that went wrong, and when its bytes are here gives
// its slot to the next one before they are decoded and verified, on as many
// cores as there are. A caller that leaves ends its own wait only; with the
// last one the flight is dropped.
//
// # How many at once
//
// The window is the number of requests that the link carries well. It is
// measured in rounds: by Little's law, throughput times the unloaded latency is
// what must be in flight to fill the link, and the window is kept at twice
// that (an origin on a busy machine grows slower long before it is full; with
// less than twice, its throughput suffers). So it doubles each round while the
// latency stays, or grows fourfold where the answers follow one another closely
// enough, from 4 to 100 within some 80 ms on a link of 20 ms, and stops where
// more in flight only means more time in flight. Latency that changes for
// reasons of its own would mislead this; so, every few rounds, half of the
// window is let go, and if the latency does not fall with it, it counts as the
// unloaded one from then on. Where each answer takes as long as it likes, the
// mean of a few is taken for what it is worth: by how much they differ from one
// another says how wrong it may be.
//
// Rounds are too slow for a link that collapses: at a fiftieth of the rate, what
// is in flight takes seconds to drain, and only then would a round end. Several
// answers in a row that are both late and slow to follow one another cut the
// window at once. docs/link-change.svg shows how it follows; the test
// TestLinkChanges draws it.
//
// # Who goes first
//
// All classes but Demand are background. Among what is queued, classes have
// strict priority. A demand request never waits for a slot that a background
// request has: it counts only its own kind against the window. What it can wait
// for is the link, so background keeps to three quarters of the window (1.5
// times what fills the link, in bytes), and to one quarter while demand is
// under way and for one latency after it, since reads come in series. (Demand
// that has caught up with its own read-ahead does not count: with less of that
// it would only wait more.) From there it grows, to a quarter of the maximum,
// while the latency stays that of an idle link. A read out of nothing, in the
// midst of a sweep, thus finds half a latency's worth of bytes before it, and
// the next ones find next to none: at 20 ms, 99 in 100 reads of 40 KiB take at
// most 31 ms at 1 Gbit/s, and 45 ms at 100 Mbit/s.
//
// A background request that is under way is not cancelled to make way, as long
// as the link is what it was. That would save some 10 ms of the figures above,
// for a fifth to a third more requests: their bytes have to be paid for twice,
// and with HTTP/1.1 their connections are lost, which costs the next requests
// one to three round trips. Only what was in flight when the link collapsed is
// put back into its line if demand waits behind it: for one read that is 0.16 s
// in place of 1.6.
//
// # What goes wrong
//
// What the origin does not have or refuses is final at once. A chunk that is
// corrupt is read again three times. Anything else is tried again, demand until
// Options.Timeout is over, background a few times. A demand request that takes
// longer than nineteen in twenty others, or than three times what is usual, is
// asked for a second time, and at last a third, and the first verified answer
// counts; so is one of background that demand has joined. That adds one request
// in twenty of demand at most, and none within two seconds of a refusal for want
// of time.
//
// The queue keeps nothing: who wants a chunk later puts it where it can be
// found. Get blocks and there is no other way to ask: who wants millions of
// chunks calls it from as many goroutines as Options.MaxWindow, which keeps the
// link full and leaves what comes next to be decided late.
//
// # What a chunk costs
//
// Of 72 KiB, packed to 38 and fetched over HTTP/1.1 with 64 in flight, some 220
// µs of a processor: 105 for SHA-512/256, 55 for zstd, 45 for HTTP, 5 here, the
// rest for waking up (BenchmarkChunk, whose server is another process).
package fetch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"caravel/store"
)

// Options tunes a Queue. The zero value is a good choice for an origin behind
// a network; for a directory, give a small MaxWindow. A burst of demand may
// exceed MaxWindow by what background has in flight at that moment, as many
// again at most: the origin must not make it queue.
type Options struct {
	MinWindow int // requests of demand that may always be in flight; 0: 8, or MaxWindow if less
	MaxWindow int // most requests in flight, see below; equal to MinWindow: fixed; 0: 128, or MinWindow if more

	Background int64 // most bytes in flight for background; 0: measured
	Held       int64 // most bytes that wait to be decoded before requests are held back; 0: 8 MiB

	Timeout time.Duration // of one demand fetch with all its tries; 0: 60 s, negative: for ever
	Tries   int           // of one fetch; 0: as many as Timeout allows. Few suit an origin beside which there is another
	Rest    time.Duration // before the second try, more or less, twice as long after each; 0: 20 ms
	Try     time.Duration // until one try counts as stalled, doubled for each that did; 0: 30 s, negative: for ever

	NoHedge bool // a slow request is waited for: the origin is asked for a chunk once, unless that fails

	Log *slog.Logger // an origin that gives nothing for long, a warning; each retry, at level debug; nil: discard
}

var errClosed = errors.New("fetch: queue is closed")

// A Queue is a store that fetches chunks from an origin. Get returns verified
// chunks only. Its methods may be called from many goroutines.
type Queue struct {
	origin store.Store
	opt    Options
	cores  int // decoders that may run at once

	life context.Context // ended by Close
	end  context.CancelFunc
	wg   sync.WaitGroup // the goroutines of the queue
	ring *time.Timer    // set under mu

	mu      sync.Mutex // guards what follows; release it by unlock
	closed  bool
	flights map[key]*flight
	queued  [store.Classes]line // want a slot
	landed  [store.Classes]line // want a core
	alarms  alarms
	armed   time.Time // when ring goes off; zero: not set

	flying      [store.Classes]int // requests in flight
	fresh       int                // of those of demand, for what nobody had asked for before
	background  int64              // bytes of those that are not demand, as guessed
	decoding    int
	held        int64 // bytes of landed and decoding flights
	calm        time.Time
	pauseDemand time.Time
	pauseOthers time.Time

	window  window
	sizes   sizes
	times   times
	hedges  hedges
	madeWay int64
	counts  [store.Classes]Counts
	outage  outage
	notes   []note
	begun   []*attempt // that have no goroutine yet
}

var _ store.Store = (*Queue)(nil)

// New makes a queue in front of origin. Close it when it is not used any more.
func New(origin store.Store, opt Options) *Queue {
	if opt.MinWindow <= 0 {
		opt.MinWindow = 8
		if opt.MaxWindow > 0 {
			opt.MinWindow = min(opt.MinWindow, opt.MaxWindow)
		}
	}
	opt.MaxWindow = max(cmp.Or(opt.MaxWindow, 128), opt.MinWindow)
	opt.Background = max(opt.Background, 0)
	if opt.Held <= 0 {
		opt.Held = 8 << 20
	}
	opt.Timeout = cmp.Or(opt.Timeout, 60*time.Second)
	opt.Try = cmp.Or(opt.Try, 30*time.Second)
	opt.Rest = cmp.Or(max(opt.Rest, 0), firstRest)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		origin:  origin,
		opt:     opt,
		cores:   runtime.GOMAXPROCS(0),
		ring:    time.NewTimer(time.Hour),
		flights: make(map[key]*flight),
		window:  newWindow(opt.MinWindow, opt.MaxWindow),
		sizes:   newSizes(),
		hedges:  hedges{budget: 1},
	}
	q.ring.Stop()
	q.life, q.end = context.WithCancel(context.Background())
	q.wg.Go(q.watch)
	return q
}

// Get returns the chunk wanted, verified. A chunk that is on its way for
// another caller is waited for, and hurried along if this one is more urgent.
func (q *Queue) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	f, err := q.wait(ctx, want, false)
	if err != nil {
		return nil, err
	}
	return f.chunk, nil
}

// Has asks the origin whether it has the chunk. It waits for its turn, and
// tries again, as Get does.
func (q *Queue) Has(ctx context.Context, want store.Want) (bool, error) {
	f, err := q.wait(ctx, want, true)
	if err != nil {
		return false, err
	}
	return f.found, nil
}

// wait joins the flight for what is wanted, and returns it when it is over.
func (q *Queue) wait(ctx context.Context, want store.Want, has bool) (*flight, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	want.Class = min(want.Class, store.Sweep)
	f, err := q.join(want, has)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		if q.leave(f, want.Class) {
			return nil, context.Cause(ctx)
		}
	}
	return f, f.err
}

// Close fails everything that is queued or under way, and returns when nothing
// of the queue runs any more. It does not close the origin.
func (q *Queue) Close() error {
	var drop []*store.Chunk
	q.mu.Lock()
	q.closed = true
	for _, f := range q.flights {
		if f.state == landed {
			drop = append(drop, f.chunk)
			q.held -= int64(f.chunk.Came())
		}
		q.finish(f, errClosed)
	}
	q.unlock()
	for _, c := range drop {
		c.Release()
	}
	q.end()
	q.wg.Wait()
	return nil
}
