package prefetch

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"caravel/blockcache"
)

// A Bringer takes what a profile wants. A blockcache.View of class Profile is
// one.
type Bringer interface {
	// Bring fetches the chunk of a row to where readers find it. It may wait
	// until they have made room for it.
	Bring(ctx context.Context, row int) (blockcache.Outcome, error)
}

// ReplayOptions tunes a replay. The zero value is a good choice.
type ReplayOptions struct {
	Requests int               // chunks under way; 0: 128
	Progress func(ReplayStats) // nil: none; called after each chunk, by the goroutine that called Replay
	Log      *slog.Logger      // nil: discard
}

// ReplayStats counts, in chunks, what a replay has done.
type ReplayStats struct {
	Wanted  int64 `json:"wanted"`  // by the profile, of this image
	Fetched int64 `json:"fetched"` // came
	Present int64 `json:"present"` // were there
	NoRoom  int64 `json:"noRoom"`  // were left for want of room
	Failed  int64 `json:"failed"`  // did not come
}

// Replay brings rows in order, many at a time, and returns when all have come or
// the context ends. What does not come is fetched when it is read, so there is
// no error.
//
// The requests go into the line of their class: demand goes before them, whoever
// reads a chunk that is under way joins in, and the queue lets as many out as the
// link carries. A profile that is larger than what may wait in memory goes on as
// its first part is read.
func Replay(ctx context.Context, rows []int, b Bringer, opt ReplayOptions) ReplayStats {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	stats := ReplayStats{Wanted: int64(len(rows))}
	done := make(chan outcome)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(max(cmp.Or(opt.Requests, 128), 1), len(rows)) {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(len(rows)) && ctx.Err() == nil; i = next.Add(1) {
				done <- replayed(ctx, rows[i-1], b, opt.Log)
			}
		})
	}
	go func() {
		workers.Wait()
		close(done)
	}()
	for end := range done {
		switch end {
		case fetched:
			stats.Fetched++
		case present:
			stats.Present++
		case full:
			stats.NoRoom++
		case left:
			stats.Failed++
		case cut:
			continue
		}
		if opt.Progress != nil {
			opt.Progress(stats)
		}
	}
	return stats
}

// replayed brings a row.
func replayed(ctx context.Context, row int, b Bringer, log *slog.Logger) outcome {
	o, err := b.Bring(ctx, row)
	switch {
	case err != nil && ctx.Err() != nil:
		return cut
	case err != nil:
		log.Debug("chunk of the profile left out", "row", row, "err", err)
		return left
	case o == blockcache.Fetched:
		return fetched
	case o == blockcache.NoRoom:
		return full
	}
	return present
}
