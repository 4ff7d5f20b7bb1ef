// Package blockcache reads images lazily: an offset becomes a chunk, and the
// chunk verified bytes.
//
// An [Image] is an index and the store that has its chunks. It is read through
// views, one for each class of reader; what one view has brought serves all:
//
//	memory := blockcache.NewMemory(64 << 20) // one for all images
//	img := blockcache.New(x, s, blockcache.Options{Memory: memory})
//	defer img.Close()
//	n, err := img.View(store.Demand).ReadAt(ctx, p, off)
//
// Bytes come from the nearest place that has them. Chunks of zeros are known
// by their ID and come from nowhere. Plain chunks are kept in [Memory]: a peer
// that decodes a chunk for each 4 KiB asked for spends 700 µs on what takes
// less than one from there. All others come from the store, whose part it is
// to join equal requests and to serve urgent ones first (store/fetch does
// both). Nothing is passed on that does not match its ID, whatever the store.
//
// # Which chunks stay
//
// Read-ahead is a scan, so one list in order of use would lose the working set
// with every large file that is copied. Memory has two lists. A chunk starts
// in the first one, which gives way while it holds more than a quarter of the
// budget, in the order of arrival: a chunk fetched ahead is not pushed out by
// used ones. A second use moves it to the other. Reads of 4 KiB hit the same
// chunk sixteen times in one pass, so "second" means: after an eighth of the
// budget has come in since the first, or after an eviction that is remembered.
// What was tried: promotion at any second hit (as plain 2Q and segmented LRU
// have it) keeps nothing of a working set of half the budget behind a scan
// three times the budget long, in reads of 4 KiB; this keeps all of it
// (TestScan).
//
// The lists stand under one mutex, which is held for a lookup and never for
// I/O, decoding or a copy. It is not split: a hit of 4 KiB takes half a
// microsecond, most of it the copy and a sixth the mutex. Sixteen goroutines
// that share a memory on two cores were a quarter slower than with one each,
// and a request through FUSE costs sixty times as much as a hit.
package blockcache

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"caravel/index"
	"caravel/store"
)

// errClosed is what a reader of a closed image gets.
var errClosed = fmt.Errorf("blockcache: image %w", fs.ErrClosed)

// Options tunes an Image. The zero value keeps nothing in memory.
type Options struct {
	Memory *Memory      // nil: nothing is kept
	Log    *slog.Logger // nil: discard
}

// An Image is the content that an index describes. Its methods may be called
// from many goroutines.
type Image struct {
	index *index.Index
	store store.Store
	mem   *Memory
	zeros *zeros
	log   *slog.Logger

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	mu     sync.Mutex // guards closed, and busy against Close
	closed atomic.Bool
	busy   sync.WaitGroup

	stats imageStats
}

// Stats counts what the readers of an image got. A read counts once for each
// chunk that it touches.
type Stats struct {
	Hits   int64 // chunks that were in memory, or known to be zeros
	Misses int64 // chunks that a reader waited for
	Bytes  int64 // given to readers
}

type imageStats struct{ hits, misses, bytes atomic.Int64 }

// New returns the image that x describes, out of the chunks in s. It owns
// neither.
func New(x *index.Index, s store.Store, opt Options) *Image {
	img := &Image{index: x, store: s, mem: opt.Memory, zeros: newZeros(x), log: opt.Log}
	if img.mem == nil {
		img.mem = NewMemory(0)
	}
	if img.log == nil {
		img.log = slog.New(slog.DiscardHandler)
	}
	img.life, img.end = context.WithCancelCause(context.Background())
	return img
}

// Close ends what the image has under way and returns when nothing of it runs
// any more. Reads, those begun before too, fail from then on; the error matches
// fs.ErrClosed.
func (img *Image) Close() error {
	img.mu.Lock()
	img.closed.Store(true)
	img.mu.Unlock()
	img.end(errClosed)
	img.busy.Wait()
	return nil
}

// enter holds off the end of Close until busy.Done. It reports whether the
// image is open.
func (img *Image) enter() bool {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.closed.Load() {
		return false
	}
	img.busy.Add(1)
	return true
}

// Size is the length of the image in bytes.
func (img *Image) Size() int64 { return img.index.Size() }

// Stats is what the readers of the image got so far.
func (img *Image) Stats() Stats {
	return Stats{
		Hits:   img.stats.hits.Load(),
		Misses: img.stats.misses.Load(),
		Bytes:  img.stats.bytes.Load(),
	}
}

// View returns the image for readers of one class.
func (img *Image) View(class store.Class) *View { return &View{img: img, class: class} }

func (img *Image) key(c index.Chunk) key { return key{c.ID, img.index.Digest()} }

// get fetches a chunk from the store and makes sure of it. The caller releases
// it.
func (img *Image) get(ctx context.Context, c index.Chunk, class store.Class) (*store.Chunk, []byte, error) {
	want := store.Want{ID: c.ID, Size: c.Size, Digest: img.index.Digest(), Class: class}
	got, err := img.store.Get(ctx, want)
	if err != nil {
		return nil, nil, err
	}
	plain, err := check(got, want)
	if err != nil {
		got.Release()
		return nil, nil, err
	}
	got.Compact()
	return got, plain, nil
}

// check returns the plain bytes of a chunk if it is the one wanted.
func check(c *store.Chunk, want store.Want) ([]byte, error) {
	if c.ID() != want.ID || c.Digest() != want.Digest {
		return nil, &store.CorruptError{ID: want.ID, Where: c.Where(), Err: fmt.Errorf("another chunk (%s)", c.ID())}
	}
	if err := c.Verify(); err != nil {
		return nil, err
	}
	plain, err := c.Plain()
	if err != nil {
		return nil, err
	}
	return plain, checkSize(plain, want.Size, c)
}

// checkSize compares a chunk that matches its ID with the size in the index:
// an index can claim any.
func checkSize(plain []byte, size int, c *store.Chunk) error {
	if len(plain) == size {
		return nil
	}
	return &store.CorruptError{ID: c.ID(), Where: c.Where(), Err: fmt.Errorf("%d bytes, the index says %d", len(plain), size)}
}
