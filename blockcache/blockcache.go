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
// less than one from there. Behind that, a [File] may have an image, or a file of
// a tree, as it is: reading 4 KiB of it takes two system calls, 2 µs, and no
// memory. All others come from the store, whose part it is to join equal
// requests and to serve urgent ones first (store/fetch does both). Nothing is
// passed on that does not match its ID, whatever the store.
//
// What fetches in the background has three ways: [View.Want] for what will be
// read at once, [View.Bring] for what will be read soon, and [Image.Keep] for what
// is only to outlive the memory, in a File or in the store's cache.
//
// # A file on disk
//
// A File is as large as what it holds from its first day on; a map beside it says
// which chunks are there. Complete, it is the image, and a kernel that is handed
// [Image.Backing] reads it without us:
//
//	f, err := blockcache.OpenFile("disk.img", x, blockcache.FileOptions{Index: sum, Size: x.Size()})
//	img.Attach(f)
//	err = img.Fill(ctx, f, store.Sweep)
//	fd := img.Backing(0, x.Size())
//
// Verification is what it is believed for, not order of writes: a process believes
// what it has written or verified itself, and takes the map for a list of what is
// worth to be verified. So neither a torn write of the map, nor another process,
// nor a disk that lost its last second can make a wrong byte.
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
	"time"

	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// errClosed is what a reader of a closed image gets.
var errClosed = fmt.Errorf("blockcache: image %w", fs.ErrClosed)

// Options tunes an Image. The zero value keeps nothing in memory.
type Options struct {
	Memory  *Memory       // nil: nothing is kept
	Kept    store.Store   // where what the store gives is kept (a cache on disk); nil: nowhere
	Touched func(row int) // told of each chunk that a Demand view reads (again and again); must be quick; nil: nobody
	Wait    time.Duration // of a read of a Demand view for what is not here, room in memory included; 0: as long as the store takes
	Log     *slog.Logger  // nil: discard
}

// An Image is the content that an index describes. Its methods may be called
// from many goroutines.
type Image struct {
	table   index.Table
	digest  chunker.Digest
	size    int64
	store   store.Store
	kept    store.Store
	mem     *Memory
	zeros   *zeros
	touched func(row int)
	wait    time.Duration // 0: no limit
	log     *slog.Logger

	files   atomic.Pointer[[]*File] // attached, by their offsets; never nil
	seeking atomic.Int32            // hints that wait for rows
	filling *semaphore.Weighted     // plain bytes that Fill has under way

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	mu     sync.Mutex // guards closed, and busy against Close
	closed atomic.Bool
	busy   sync.WaitGroup

	counts [store.Classes]counts
}

// New returns the image that t describes, out of the chunks in s. It owns
// nothing that it is given. The rows of t may still be on their way: a reader
// waits for those that it needs.
func New(t index.Table, s store.Store, opt Options) *Image {
	img := &Image{
		table:   t,
		digest:  t.Digest(),
		size:    t.Size(),
		store:   s,
		kept:    opt.Kept,
		mem:     opt.Memory,
		zeros:   newZeros(t),
		touched: opt.Touched,
		wait:    opt.Wait,
		log:     opt.Log,
		filling: semaphore.NewWeighted(fillBytes),
	}
	if img.mem == nil {
		img.mem = NewMemory(0)
	}
	if img.log == nil {
		img.log = slog.New(slog.DiscardHandler)
	}
	img.files.Store(new([]*File))
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

// join is enter, with a context that ends with ctx or with the image.
func (img *Image) join(ctx context.Context) (both context.Context, leave func(), err error) {
	if !img.enter() {
		return nil, nil, errClosed
	}
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(img.life, func() { cancel(errClosed) })
	return both, func() {
		stop()
		cancel(nil)
		img.busy.Done()
	}, nil
}

// joinFor is join for a reader of a class, of which those of demand may have a limit
// to their patience.
func (img *Image) joinFor(ctx context.Context, class store.Class) (both context.Context, leave func(), err error) {
	joined, end, err := img.join(ctx)
	if err != nil || class != store.Demand || img.wait == 0 {
		return joined, end, err
	}
	both, cancel := context.WithTimeoutCause(joined, img.wait, fmt.Errorf("blockcache: no answer within %v", img.wait))
	return both, func() {
		cancel()
		end()
	}, nil
}

// Size is the length of the image in bytes.
func (img *Image) Size() int64 { return img.size }

// View returns the image for readers of one class.
func (img *Image) View(class store.Class) *View { return &View{img: img, class: class} }

func (img *Image) key(c index.Chunk) key { return key{c.ID, img.digest} }

// get fetches a chunk from the store and makes sure of it. The caller releases
// it.
func (img *Image) get(ctx context.Context, c index.Chunk, class store.Class) (*store.Chunk, []byte, error) {
	want := store.Want{ID: c.ID, Size: c.Size, Digest: img.digest, Class: class}
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
