package prefetch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"caravel/blockcache"
	"caravel/store"
)

// A Keeper is what is swept: an image, and where its chunks outlive the memory.
// Its methods are called from many goroutines. See [Keeping].
type Keeper interface {
	// Rows is the number of chunks.
	Rows() int

	// Kept reports whether a chunk is there.
	Kept(ctx context.Context, row int) bool

	// Keep fetches a chunk to there, and returns how many plain bytes came: 0 if
	// it was there. blockcache.ErrNowhere ends the sweep.
	Keep(ctx context.Context, row int) (size int, err error)
}

// Keeping is a blockcache.Image as it is swept.
func Keeping(img *blockcache.Image) Keeper { return keeping{img} }

type keeping struct{ *blockcache.Image }

func (k keeping) Keep(ctx context.Context, row int) (int, error) {
	return k.Image.Keep(ctx, row, store.Sweep)
}

// SweepOptions tunes a sweep. The zero value is a good choice.
type SweepOptions struct {
	First, End int              // rows that are looked at; 0, 0: all
	Rate       int64            // plain bytes a second; 0: as many as the link carries
	Room       func() int64     // bytes that may still be kept, asked before each chunk; nil: no limit
	Chunk      int64            // average chunk of the image; 0: 64 KiB
	Bytes      int64            // plain bytes under way, about; 0: 16 MiB
	Requests   int              // chunks under way; 0: 128
	Progress   func(SweepStats) // nil: none; called after each chunk, by the goroutine that called Sweep
	Log        *slog.Logger     // nil: discard
}

// SweepStats counts what a sweep has done. Repeated chunks count each time that
// they are looked at.
type SweepStats struct {
	Present int64 `json:"present"` // chunks that were there
	Fetched int64 `json:"fetched"` // chunks that came
	Left    int64 `json:"left"`    // chunks left out: the store has none, a corrupt one, or refuses
	Bytes   int64 `json:"bytes"`   // plain bytes of those fetched
	Full    bool  `json:"full"`    // it has ended for want of room, or of a place
}

// Sweep fetches the chunks that k has not kept, in disk order.
// It ends when all were looked at, or when there is no more Room, or no place any
// more: a file that was given up.
//
// It never fails for what a store says. After an error all of it pauses, the
// longer the more of them follow one another, and then asks again; a chunk that
// the store has not, has corrupt, or refuses is left out. The error is that of
// ctx, if that ended before the sweep did.
func Sweep(ctx context.Context, k Keeper, opt SweepOptions) (SweepStats, error) {
	w := &sweep{keeper: k, opt: opt, done: make(chan result)}
	w.opt.Chunk = max(cmp.Or(opt.Chunk, 64<<10), 1)
	w.opt.Bytes = cmp.Or(opt.Bytes, 16<<20)
	w.opt.Requests = max(int(min(int64(cmp.Or(opt.Requests, 128)), w.opt.Bytes/w.opt.Chunk)), 1)
	if w.opt.Log == nil {
		w.opt.Log = slog.New(slog.DiscardHandler)
	}
	w.pace.rate = opt.Rate
	w.all(ctx)
	for w.running > 0 {
		w.count(<-w.done)
	}
	if w.cut || ctx.Err() != nil && !w.complete && !w.stats.Full {
		return w.stats, context.Cause(ctx)
	}
	return w.stats, nil
}

// A sweep belongs to the goroutine that called Sweep, but for pause.
type sweep struct {
	keeper Keeper
	opt    SweepOptions

	done     chan result
	running  int // goroutines that will send on done
	complete bool
	cut      bool // a chunk was given up because the context ended
	stats    SweepStats
	pace     pace
	pause    pause
}

// A result is what became of one chunk.
type result struct {
	size int64 // plain bytes that came
	owed int64 // what was counted for it beforehand
	end  outcome
}

type outcome uint8

const (
	fetched outcome = iota
	present         // it was there
	left            // there is none to be had
	full            // there is no more room
	cut             // the context ended
)

// all looks at every row once, until there is no use in going on.
func (w *sweep) all(ctx context.Context) {
	for row := w.opt.First; row < min(cmp.Or(w.opt.End, w.keeper.Rows()), w.keeper.Rows()); row++ {
		if !w.next(ctx, row) {
			return
		}
	}
	w.complete = true
}

// next starts to fetch a chunk that is not there, once it is its turn. It
// reports false if the sweep is to end.
func (w *sweep) next(ctx context.Context, row int) bool {
	if ctx.Err() != nil {
		return false
	}
	if w.keeper.Kept(ctx, row) {
		w.stats.Present++
		w.report()
		return true
	}
	for w.running >= w.opt.Requests {
		w.count(<-w.done)
	}
	if !w.room() || !w.wait(ctx) {
		return false
	}
	w.running++
	owed := w.usual()
	w.pace.spend(owed)
	go func() {
		r := w.fetch(ctx, row)
		r.owed = owed
		w.done <- r
	}()
	return true
}

// usual is how many bytes a chunk may be expected to have.
func (w *sweep) usual() int64 {
	if w.stats.Fetched == 0 {
		return w.opt.Chunk
	}
	return w.stats.Bytes / w.stats.Fetched
}

// room reports whether one more chunk may be kept beside those under way.
func (w *sweep) room() bool {
	if w.stats.Full {
		return false
	}
	if w.opt.Room == nil {
		return true
	}
	for {
		rest := w.opt.Room()
		switch {
		case rest > int64(w.running)*w.usual():
			return true
		case w.running == 0:
			w.stats.Full = true
			return false
		}
		w.count(<-w.done)
	}
}

// wait returns when the rate allows one more chunk, or false if ctx has ended.
func (w *sweep) wait(ctx context.Context) bool {
	for {
		rest := w.pace.rest()
		if rest == 0 {
			return ctx.Err() == nil
		}
		select {
		case r := <-w.done:
			w.count(r)
		case <-time.After(rest):
		case <-ctx.Done():
			return false
		}
	}
}

// count takes note of what became of a chunk.
func (w *sweep) count(r result) {
	w.running--
	w.pace.spend(r.size - r.owed)
	switch r.end {
	case fetched:
		w.stats.Fetched++
		w.stats.Bytes += r.size
	case present:
		w.stats.Present++
	case left:
		w.stats.Left++
	case full:
		w.stats.Full = true
		return
	case cut:
		w.cut = true
		return
	}
	w.report()
}

func (w *sweep) report() {
	if w.opt.Progress != nil {
		w.opt.Progress(w.stats)
	}
}

// fetch gets one chunk, however long it takes.
func (w *sweep) fetch(ctx context.Context, row int) result {
	for w.pause.wait(ctx) {
		began := time.Now()
		size, err := w.keeper.Keep(ctx, row)
		if err == nil {
			w.pause.end()
			if size == 0 {
				return result{end: present}
			}
			return result{size: int64(size), end: fetched}
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, blockcache.ErrNowhere) {
			return result{end: full}
		}
		w.opt.Log.Debug("sweep pauses", "row", row, "err", err)
		w.pause.begin(began, err)
		switch {
		case store.Final(err):
			return result{end: left}
		case w.opt.Room != nil && w.opt.Room() <= 0:
			return result{end: full}
		}
	}
	return result{end: cut}
}
