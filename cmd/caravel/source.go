package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"caravel/blockcache"
	"caravel/catalog"
	"caravel/config"
	"caravel/index"
	"caravel/internal/redact"
	"caravel/prefetch"
	"caravel/store"
	"caravel/store/access"
	"caravel/store/diskcache"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/open"
)

// An opener opens the images of one command, which share connections and, for
// each origin, one queue. It is used by one goroutine.
type opener struct {
	opt    sourceOptions
	where  open.Options
	reach  *access.Access
	images []*openedImage
	asked  sync.Once // opens disk
	serves bool      // others wait for what is fetched: no chunk is asked for twice because it is slow
	keyed  bool      // whether where has the key, if there is one
	stderr io.Writer
	log    *slog.Logger

	stacks sync.Mutex     // held while stores are opened; guards what follows, and of opt what it says of stores
	swaps  []*openedImage // those whose stores can be exchanged
	passed []*passedOn    // what servers pass on of stores that can be exchanged

	mu     sync.Mutex              // guards what follows against who reports it
	queues map[string]*fetch.Queue // by origin
	disk   *diskcache.Cache        // nil: there is none, or it was not needed
}

// newOpener makes the opener of a command, which closes it when nothing reads
// any more.
func newOpener(std streams, opt sourceOptions, log *slog.Logger) (*opener, error) {
	if err := opt.readStoreFile(); err != nil {
		return nil, err
	}
	reach, err := opt.reach.access(log, access.Options{Flags: config.Settings{N: opt.workers}})
	if err != nil {
		return nil, err
	}
	form, err := formHere(store.Form{})
	if err != nil {
		return nil, err
	}
	o := &opener{opt: opt, reach: reach, queues: map[string]*fetch.Queue{}, stderr: std.err, log: log}
	o.where = open.Options{
		HTTP:    http.Options{Stall: stall(opt.storeTimeout())},
		Form:    form,
		Adjust:  reach.Adjust,
		Shared:  open.NewShared(),
		Wrap:    o.queue,
		Log:     log,
		Stdin:   std.in,
		Timeout: forEver(opt.timeout),
	}
	return o, nil
}

// forEver turns the flag's "0: never give up" into that of the rooms below.
func forEver(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// stall is how long a server may be silent: less than what all tries together
// may take, so that the error says which one it was.
func stall(timeout time.Duration) time.Duration {
	const usual = 30 * time.Second
	if timeout == 0 {
		return usual
	}
	return min(usual, timeout*3/4)
}

// queue puts the queue of its origin in front of a store.
func (o *opener) queue(s store.Store, from open.Origin) store.Store {
	opt, err := o.reach.Fetch(from.Location, o.queueOptions(from))
	if err != nil {
		return broken{err} // and would not have been opened
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	q, ok := o.queues[from.Where]
	if !ok {
		q = fetch.New(s, opt)
		o.queues[from.Where] = q
	}
	return q
}

// A broken store only says why.
type broken struct{ err error }

func (b broken) Get(context.Context, store.Want) (*store.Chunk, error) { return nil, b.err }
func (b broken) Has(context.Context, store.Want) (bool, error)         { return false, b.err }

// queueOptions suit an origin: a disk needs as many requests at a time as there
// are cores and a few more, a network as many as the link carries.
func (o *opener) queueOptions(from open.Origin) fetch.Options {
	f := fetch.Options{Timeout: forEver(o.opt.storeTimeout()), NoHedge: o.serves, Log: o.log}
	if o.opt.severalStores() {
		f.Tries, f.Try = 2, 10*time.Second // then the next one is asked
	}
	if !from.Remote {
		f.MinWindow, f.MaxWindow = 8, 8
	}
	if n := o.opt.workers; n > 0 {
		f.MaxWindow = n
		f.MinWindow = min(f.MinWindow, n)
	}
	return f
}

// openDisk opens the cache on disk the first time that something comes over a
// network; nil if there is none.
func (o *opener) openDisk() (*diskcache.Cache, error) {
	var err error
	o.asked.Do(func() {
		var disk *diskcache.Cache
		disk, err = openDisk(o.opt.disk, o.log)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.disk = disk
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.disk, err
}

// unlock gets the key that was named the first time that chunks are needed.
func (o *opener) unlock(ctx context.Context) (err error) {
	if !o.keyed {
		o.where.Form, err = o.opt.crypt.form(ctx, o.where.Form, o.stderr, o.log)
		o.keyed = err == nil
	}
	return err
}

// Close ends all that is under way.
func (o *opener) Close() error {
	var errs []error
	for _, img := range o.images {
		errs = append(errs, img.Close())
	}
	for _, q := range o.queues {
		errs = append(errs, q.Close())
	}
	if o.disk != nil {
		errs = append(errs, o.disk.Close())
	}
	errs = append(errs, o.where.Shared.Close())
	return errors.Join(errs...)
}

// A reading is how an image will be read.
type reading struct {
	sides   []string // endings of the files beside the index that are wanted
	partial bool     // its index need not be here whole
	once    bool     // all of it passes by, once: the cache on disk, which evicts, keeps none of its chunks
}

// An openedImage is an index and the store that its chunks come from.
type openedImage struct {
	*catalog.Image
	location string
	where    string                          // the location without secrets
	store    store.Store                     // verifies; a *store.Swap below, with --store-file
	key      *store.Key                      // nothing that comes from it is kept but encrypted, if not nil
	remote   bool                            // a store of it is behind a network
	kept     store.Store                     // where what is fetched outlives this process; nil: nowhere
	swap     *store.Swap                     // what store reads from, with --store-file
	keptSwap *store.Swap                     // kept, with --store-file
	caches   cacheHits                       // what these had
	room     func() int64                    // bytes that may be kept there for nobody in particular; nil: any number
	shut     atomic.Bool                     // nothing is kept, for now
	once     bool                            // all of it passes by, once: only what the user has named keeps it
	file     atomic.Pointer[blockcache.File] // all of it, materialised; nil: no, or not yet
	ahead    prefetch.Group
	sidecar  atomic.Pointer[string] // what became of it; nil: there is none
}

// image opens an image, by path, URL or "-", and the stores that its chunks are
// in: those that were named, else the one beside the index.
func (o *opener) image(ctx context.Context, location string, as reading) (*openedImage, error) {
	if err := o.unlock(ctx); err != nil {
		return nil, err
	}
	o.warm(location)
	c, err := o.catalog(ctx, location, as)
	if err != nil {
		return nil, err
	}
	img := &openedImage{Image: c, location: location, where: redact.URL(location)}
	o.images = append(o.images, img)
	// Nothing is kept on the word of an index that is not checked to its end.
	img.shut.Store(c.Index == nil)
	img.once = as.once
	if err := o.openStores(img); err != nil || !img.remote || len(as.sides) == 0 || img.key != nil {
		return img, err
	}
	disk, err := o.openDisk()
	c.KeepFound(disk)
	return img, err
}

// warm begins to connect to the first store while the index is read. Not if an ssh is
// begun for each and there is a terminal: they may ask there for a password, and would be
// in each other's way.
func (o *opener) warm(image string) {
	if o.opt.disk.offline || !open.HasSides(image) && hasTerminal() {
		return
	}
	o.stacks.Lock()
	first := o.locations(image)[0]
	o.stacks.Unlock()
	open.Warm(first, o.where)
}

// hasTerminal reports whether a program that we start could ask somebody something.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// fillMeanwhile brings what is not here of the index, if chunks are kept somewhere:
// all of it has to be checked before one is, on its word. stop ends that.
func (i *openedImage) fillMeanwhile(ctx context.Context) (stop func()) {
	if i.Index != nil || i.kept == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var filling sync.WaitGroup
	filling.Go(func() {
		if _, err := i.Fill(ctx); err == nil {
			i.shut.Store(false)
		}
	})
	return func() {
		cancel()
		filling.Wait()
	}
}

// index reads an index without opening a store.
func (o *opener) index(ctx context.Context, location string) (*index.Index, error) {
	img, err := o.catalog(ctx, location, reading{})
	if err != nil {
		return nil, err
	}
	return img.Index, img.Close()
}

// catalog opens the index of an image, and the files beside it. Another one than
// the user has pinned is refused.
func (o *opener) catalog(ctx context.Context, location string, as reading) (*catalog.Image, error) {
	c, err := catalog.Open(ctx, location, catalog.Options{
		Open:    o.where,
		Disk:    o.openDisk,
		Offline: o.opt.disk.offline,
		Pin:     o.opt.pin,
		Sides:   as.sides,
		Partial: as.partial,
		Log:     o.log,
	})
	if errors.Is(err, catalog.ErrOffline) {
		err = fmt.Errorf("%w (--offline)", err)
	}
	return c, err
}
