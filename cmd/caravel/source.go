package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	nethttp "net/http"
	"time"

	"caravel/index"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/open"
)

// An openedImage is an index and the store that its chunks come from.
type openedImage struct {
	index   *index.Index
	modTime time.Time // of the index; zero: unknown
	store   store.Store
	kept    store.Store // the cache that keeps what is fetched; nil: none
	queues  []*fetch.Queue
}

// openImage reads an index, by path, URL or "-", and opens the stores that its
// chunks are in: those that were named, else the one beside the index.
func openImage(ctx context.Context, std streams, location string, opt sourceOptions, log *slog.Logger) (*openedImage, error) {
	where := opt.openOptions(std)
	x, info, err := readIndexInfo(ctx, location, opt.pin, where)
	if err != nil {
		return nil, err
	}
	img := &openedImage{index: x, modTime: info.ModTime}
	if err := img.openStores(location, opt, where, log); err != nil {
		return nil, errors.Join(err, img.Close())
	}
	return img, nil
}

// openOptions are the same for all that a command opens, so that it shares
// connections.
func (o sourceOptions) openOptions(std streams) open.Options {
	return open.Options{
		HTTP:    http.Options{Client: new(nethttp.Client)},
		Stdin:   std.in,
		Timeout: forEver(o.timeout),
	}
}

// forEver turns the flag's "0: never give up" into that of the rooms below.
func forEver(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (img *openedImage) openStores(location string, opt sourceOptions, where open.Options, log *slog.Logger) error {
	where.Wrap = func(s store.Store, o open.Origin) store.Store {
		q := fetch.New(s, queueOptions(o, opt, log))
		img.queues = append(img.queues, q)
		return q
	}
	locations := opt.allStores()
	if len(opt.stores) == 0 {
		locations = append([]string{open.DefaultStore(location)}, locations...)
	}
	var all []store.Store
	for _, l := range locations {
		s, err := open.Store(l, where)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	img.store = store.Router(all...)
	if opt.cache == "" {
		return nil
	}
	near, err := open.Writer(opt.cache, open.Options{})
	if err != nil {
		return err
	}
	img.store, img.kept = store.Cache(near, img.store, log), near
	return nil
}

// queueOptions suit an origin: a disk needs as many requests at a time as there
// are cores and a few more, a network as many as the link carries.
func queueOptions(o open.Origin, opt sourceOptions, log *slog.Logger) fetch.Options {
	f := fetch.Options{Timeout: forEver(opt.timeout), Log: log}
	if !o.Remote {
		f.MinWindow, f.MaxWindow = 8, 8
	}
	if opt.workers > 0 {
		f.MaxWindow = opt.workers
		f.MinWindow = min(f.MinWindow, opt.workers)
	}
	return f
}

// Close ends what the image has under way.
func (img *openedImage) Close() error {
	var errs []error
	for _, q := range img.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// readIndex reads an index without opening a store.
func readIndex(ctx context.Context, std streams, location string, opt sourceOptions) (*index.Index, error) {
	x, _, err := readIndexInfo(ctx, location, opt.pin, opt.openOptions(std))
	return x, err
}

func readIndexInfo(ctx context.Context, location string, want *pin, where open.Options) (*index.Index, store.Info, error) {
	r, info, err := open.Reader(ctx, location, where)
	if err != nil {
		return nil, store.Info{}, err
	}
	defer r.Close()
	body := io.Reader(r)
	var sum hash.Hash
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
