package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"time"

	"caravel/index"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/open"
)

// An opener opens the images of one command, which share connections and, for
// each origin, one queue. It is used by one goroutine.
type opener struct {
	opt    sourceOptions
	where  open.Options
	queues map[string]*fetch.Queue // by origin
	log    *slog.Logger
}

// newOpener makes the opener of a command, which closes it when nothing reads
// any more.
func newOpener(std streams, opt sourceOptions, log *slog.Logger) *opener {
	o := &opener{opt: opt, queues: map[string]*fetch.Queue{}, log: log}
	o.where = open.Options{
		HTTP:    http.Options{Client: http.NewClient(http.Options{}), Stall: stall(opt.storeTimeout())},
		Wrap:    o.queue,
		Log:     log,
		Stdin:   std.in,
		Timeout: forEver(opt.timeout),
	}
	return o
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
	q, ok := o.queues[from.Where]
	if !ok {
		q = fetch.New(s, o.queueOptions(from))
		o.queues[from.Where] = q
	}
	return q
}

// queueOptions suit an origin: a disk needs as many requests at a time as there
// are cores and a few more, a network as many as the link carries.
func (o *opener) queueOptions(from open.Origin) fetch.Options {
	f := fetch.Options{Timeout: forEver(o.opt.storeTimeout()), Log: o.log}
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

// Close ends all that is under way.
func (o *opener) Close() error {
	var errs []error
	for _, q := range o.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// An openedImage is an index and the store that its chunks come from.
type openedImage struct {
	index   *index.Index
	modTime time.Time   // of the index; zero: unknown
	store   store.Store // verifies
	kept    store.Store // the cache that keeps what is fetched; nil: none
}

// image reads an index, by path, URL or "-", and opens the stores that its
// chunks are in: those that were named, else the one beside the index.
func (o *opener) image(ctx context.Context, location string) (*openedImage, error) {
	x, info, err := o.index(ctx, location)
	if err != nil {
		return nil, err
	}
	img := &openedImage{index: x, modTime: info.ModTime}
	locations := o.opt.allStores()
	if len(o.opt.stores) == 0 {
		locations = append([]string{open.DefaultStore(location)}, locations...)
	}
	var all []store.Store
	for _, l := range locations {
		s, err := open.Store(l, o.where)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	img.store = all[0]
	if o.opt.severalStores() {
		img.store = store.Retry(store.Router(o.log, all...), o.where.Timeout)
	}
	if o.opt.cache == "" {
		return img, nil
	}
	near, err := open.Writer(o.opt.cache, open.Options{})
	if err != nil {
		return nil, err
	}
	img.store, img.kept = store.Cache(near, img.store, o.log), near
	return img, nil
}

// index reads an index without opening a store. Another one than the user has
// pinned is refused.
func (o *opener) index(ctx context.Context, location string) (*index.Index, store.Info, error) {
	r, info, err := open.Reader(ctx, location, o.where)
	if err != nil {
		return nil, store.Info{}, err
	}
	defer r.Close()
	body, sum, want := io.Reader(r), hash.Hash(nil), o.opt.pin
	if want != nil {
		sum = want.digest.New()
		body = io.TeeReader(r, sum)
	}
	x, err := index.Read(body, info.Size)
	if err != nil {
		return nil, store.Info{}, fmt.Errorf("%s: %w", location, err)
	}
	if want != nil {
		if got := [32]byte(sum.Sum(nil)); got != want.id {
			return nil, store.Info{}, fmt.Errorf("%s: not the index asked for: its %v is %x, not %v", location, want.digest, got, want.id)
		}
	}
	return x, info, nil
}
