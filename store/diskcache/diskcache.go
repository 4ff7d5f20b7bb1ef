// Package diskcache is a directory of bounded size in which chunks, indexes and
// sidecars of images are kept, shared by all processes that name it.
//
// A [Cache] is a store of chunks that stands before another one:
//
//	disk, err := diskcache.Open(dir, diskcache.Options{Size: 10 << 30})
//	s := store.Cache(disk, far, log)
//
// In the directory lie, beside the mark that makes it ours:
//
//	chunks/ab/abcd…   a chunk as it came, behind eight bytes that say how; of one
//	                  that came encrypted, the name ends in what its key is called
//	files/…           small files with their digest
//	images/…          materialised files, which their users write themselves
//	tmp/…             unfinished files, in a folder that its process has locked
//	usage             how much all of it takes, and when that was last counted
//	lock              held by the one process that counts and evicts
//
// Nothing is synced: chunks are verified by whoever reads them, small files have
// a digest, so what a power cut spoils is as good as missing. A file's time of
// modification is when it was last used, within ten minutes, so that a hit costs
// no write.
//
// Eviction needs no list of what there is, which 400,000 chunks would make long
// to load and hard to share. Each process takes leave for some bytes ahead of
// writing them (a kill leaves the count too high, never too low); the one that
// comes near the budget looks at all files, in the background and alone, finds
// the age that makes up a tenth of the budget, and removes what is older. With a
// budget of 10 GiB that is a second or so (1.7 µs for a file, twice) for a GiB
// written, 30 µs for a chunk, and the count is right again.
package diskcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"caravel/store"

	"golang.org/x/sync/semaphore"
)

// Options tunes a Cache.
type Options struct {
	Size int64        // bytes on disk that it may take; 0: 10 GiB. The least of all processes counts
	Log  *slog.Logger // nil: discard
}

const (
	defaultSize = 10 << 30
	smallest    = 1 << 20
)

// A Cache is one such directory, opened. It is itself a store of chunks, which
// it keeps as they came (compressed, encrypted); like any store's, its chunks
// are verified when they are read, by whoever reads them. It evicts what was
// used least lately. Its methods may be called from many goroutines, and the
// directory by many processes; one that is killed at any instant, and a disk
// that is full, leave nothing worse than a chunk that is not there.
type Cache struct {
	path   string
	budget int64
	log    *slog.Logger

	hits, misses, kept, evicted, lost atomic.Int64

	mu      sync.Mutex // guards what follows
	place   *place
	closed  bool
	pending map[slot]waiting // chunks that wait for the disk
	queue   []slot           // in the order of their coming
	writing bool             // a goroutine writes the queue
	images  map[name]int64   // bytes on disk when last measured

	waits    *semaphore.Weighted // the bytes of pending
	ledger   ledger
	overfull outage // eviction does not keep up
	outage   outage // the disk does not work
	said     atomic.Bool

	life context.Context // ended by Close
	end  context.CancelFunc
	look chan struct{}  // asks the janitor to look at once
	work sync.WaitGroup // the janitor, and who writes the queue
}

var (
	_ store.Writer = (*Cache)(nil)
	_ store.Keeper = (*Cache)(nil)
)

// Open opens the directory, or makes it, with mode 0700, and marks it as ours.
// Refused are a directory that holds other things and no mark, one of another
// user's, and one of ours in which others may write.
func Open(dir string, opt Options) (*Cache, error) {
	opt.Size = cmp.Or(opt.Size, defaultSize)
	if opt.Size < smallest {
		return nil, fmt.Errorf("diskcache: %s: a budget of %d bytes is too small; give it %d at least", dir, opt.Size, smallest)
	}
	path, err := filepath.Abs(dir) // the working directory may change
	if err != nil {
		return nil, err
	}
	p, err := openPlace(path)
	if err != nil {
		return nil, err
	}
	c := &Cache{
		path:    path,
		budget:  opt.Size,
		log:     cmp.Or(opt.Log, slog.New(slog.DiscardHandler)),
		place:   p,
		pending: make(map[slot]waiting),
		images:  make(map[name]int64),
		waits:   semaphore.NewWeighted(maxWaiting),
		look:    make(chan struct{}, 1),
	}
	c.ledger.step = min(max(c.budget/128, 64<<10), 4<<20)
	c.life, c.end = context.WithCancel(context.Background())
	c.count(p)
	c.work.Go(c.keepHouse)
	return c, nil
}

var (
	errClosed  = errors.New("diskcache: closed")
	errNotFile = errors.New("not a regular file")
	errTooLong = errors.New("too long")
)

// String is the directory's path.
func (c *Cache) String() string { return c.path }

// Stats is what the cache knows of itself.
type Stats struct {
	Budget  int64 // bytes
	Bytes   int64 // on disk, by all processes, as of the last look
	Hits    int64 // chunks given
	Misses  int64
	Kept    int64 // chunks written
	Evicted int64 // files removed by this process
	Failed  int64 // chunks that could not be written, or not in time
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	return Stats{
		Budget:  c.budget,
		Bytes:   c.ledger.bytes(),
		Hits:    c.hits.Load(),
		Misses:  c.misses.Load(),
		Kept:    c.kept.Load(),
		Evicted: c.evicted.Load(),
		Failed:  c.lost.Load(),
	}
}

// Room is how many bytes may still be kept before half of the budget is taken:
// what a background sweep may fill. There is none while nothing can be written.
func (c *Cache) Room() int64 {
	if c.outage.down() {
		return 0
	}
	return max(0, c.budget/2-c.ledger.bytes())
}

// Close waits for what is being written, and closes the directory.
func (c *Cache) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return errClosed
	}
	c.end()
	c.work.Wait()
	p := c.enter()
	c.settle(p, 0)
	c.mu.Lock()
	c.place = nowhere(c.path)
	c.mu.Unlock()
	c.leave(p)
	c.leave(p) // the reference that is the cache's own
	return nil
}

// enter takes a reference to the place, which leave gives back.
func (c *Cache) enter() *place {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place.refs++
	return c.place
}

func (c *Cache) leave(p *place) {
	c.mu.Lock()
	p.refs--
	last := p.refs < 0
	c.mu.Unlock()
	if last {
		p.close()
	}
}

// reopen makes the directory again, in place of one that is gone.
func (c *Cache) reopen(old *place) error {
	p, err := openPlace(c.path)
	if err != nil {
		return err
	}
	c.mu.Lock()
	mine := c.place == old
	if mine {
		c.place = p
	}
	c.mu.Unlock()
	if !mine { // somebody else was quicker
		p.close()
		return nil
	}
	c.leave(old)
	c.count(p)
	return nil
}

// change calls f, which makes something, and once more after making the
// directory anew if it is gone.
func (c *Cache) change(f func(p *place) error) error {
	p := c.enter()
	err := f(p)
	if gone(err) {
		if err = c.reopen(p); err == nil {
			again := c.enter()
			err = f(again)
			c.leave(again)
		}
	}
	c.leave(p)
	return err
}

// An outage is a time in which nothing is written. Its end is a try.
type outage struct{ until atomic.Int64 } // in nanoseconds since 1970; 0: there is none

// rest is how long nothing is written after something could not be.
const rest = 30 * time.Second

func (o *outage) begin() { o.until.Store(time.Now().Add(rest).UnixNano()) }

// end reports whether there was one.
func (o *outage) end() bool { return o.until.Load() != 0 && o.until.Swap(0) != 0 }

// down does not believe in an end that is far away: the clock was set back.
func (o *outage) down() bool {
	left := time.Until(time.Unix(0, o.until.Load()))
	return left > 0 && left <= rest
}

// wrote takes note of how writing went, and says so when that changes.
func (c *Cache) wrote(err error) {
	if err != nil {
		c.outage.begin()
		if c.said.CompareAndSwap(false, true) {
			c.log.Warn("disk cache cannot be written, going on without", "dir", c.path, "err", err)
		}
		return
	}
	if c.outage.end() && c.said.Swap(false) {
		c.log.Info("disk cache can be written again", "dir", c.path)
	}
}
