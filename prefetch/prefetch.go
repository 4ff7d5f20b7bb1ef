// Package prefetch decides what of an image is fetched before it is asked for.
//
// A [Reader] stands between whoever reads and the image. It watches the reads
// go by and hints at what comes next; it never fetches, waits or fails on its
// own:
//
//	r := prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead), prefetch.Options{})
//	n, err := r.ReadAt(ctx, p, off)
//
// A [Profile] is what an earlier run touched, in its order. A [Recorder] makes
// it, [Replay] has it fetched in bulk, before anybody asks:
//
//	rec := prefetch.NewRecorder(x.Len()) // blockcache.Options{Touched: rec.Touch}
//	go prefetch.Replay(ctx, profile.Rows(x), img.View(store.Profile), prefetch.ReplayOptions{})
//	…
//	_, err := rec.Profile(x).WriteTo(file)
//
// [Sweep] fetches what is left of an image, behind everything else, to where it
// is kept. What each of them was good for is in [Stats], [ReplayStats],
// [SweepStats], [Swept] and, as far as memory can tell, [Hinted].
//
// # Read-ahead
//
// The kernel's own read-ahead of a FUSE file is 128 KiB, which is 6 MB/s over
// 20 ms: over a wide link it has to be done here. But a window that is opened
// without cause costs several times the bytes that are used, so nothing is
// fetched on a guess:
//
//   - A sequential stream is three reads that follow one another without a gap.
//     Sixteen requests of a block device in flight, or the kernel's read-ahead,
//     arrive in a slightly different order, so a stream is grown from runs
//     that touch, and once it is known, a read may lie some lengths ahead.
//   - A strided stream is four reads at the same distance, forwards or
//     backwards, other reads in between. Reading backwards is one.
//   - All others are random, and get nothing.
//
// The window of a stream starts at one chunk, or the length of a read. It
// doubles when the reader arrives at a chunk that was asked for and is not
// there yet, at most once per window, since what was asked for before the
// window grew tells nothing of the new one. So it ends where the link or the
// decoder is busy all the time, and a reader slower than that leaves it small.
// It is halved when a chunk was evicted before it was read: then memory is the
// limit, and several readers share it. Streams that end with much of their
// windows unread make the limit of the streams that follow smaller, until one
// uses it up many times. Of a build that reads files of 1 KiB to 1 MiB from a
// disk, 15 % of what is fetched is not read (TestWasteOfABuild); of a tree, where
// a file has a [Reader] of its own that goes no further, nothing.
//
// # Profiles
//
// No window is as good: a build in Go's own tree reads 535 chunks, in 412 round
// trips if it asks for one after the other. Windows of 4 to 32 chunks make that
// 129 to 40, and fetch 23 to 96 % more. Its profile is 25 KB, and brings all of
// it in some ten round trips, most of them to find out what the link carries, and
// nothing else.
package prefetch

import (
	"context"

	"caravel/blockcache"
)

// An Image is read at offsets. A blockcache.View of class Demand is one.
type Image interface {
	Size() int64
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// An Ahead takes hints. A blockcache.View of class ReadAhead is one.
type Ahead interface {
	// Want fetches ranges in the background. It does not wait, and ignores
	// what is there or on its way.
	Want(ranges ...blockcache.Range)

	// State tells where the chunk at off is, and where it ends.
	State(off int64) (s blockcache.State, end int64)
}

var (
	_ Image = (*blockcache.View)(nil)
	_ Ahead = (*blockcache.View)(nil)
)
