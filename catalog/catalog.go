// Package catalog opens what belongs to an image beside its chunks: the index,
// and the files that lie beside it under its name with an ending more, such as
// the sidecar (".tree") and the profile (".profile").
//
//	img, err := catalog.Open(ctx, "https://example.com/tree.caidx", catalog.Options{
//		Sides: []string{".tree", ".profile"},
//	})
//	defer img.Close()
//	b, err := img.Side(ctx, ".tree")
//
// All of them are asked for at the same time, so that one round trip brings
// them. Side files are taken from where the index came from and from nowhere
// else, and say nothing that this package believes: who uses one makes sure that
// it belongs to the index.
//
// # What is kept
//
// What came over a network is kept in the disk cache, if there is one: the index
// by its digest, and for each location a record of which index is there, of the
// tag and time by which its server knows it, and of the side files, those that
// are not there included. So an image that is opened again costs one conditional
// request, for the index; as long as its content is the same, nothing else is
// asked for, but once a day, at the same time as the index, what was not there: a
// profile may come later than its image. Whatever is damaged, lost, or another
// process's is found out by its digest and asked for again: each record is
// written whole, and the last one counts. What was damaged on its way to us nobody
// can tell from what its author wrote, until a chunk turns out not to exist: then
// ([Image.Doubt]) the index is read again the next time.
// Locations may hold passwords: a record bears the digest of the location for a
// name. Of an index on this machine's disk nothing is kept, unless its chunks are
// behind a network ([Image.KeepFound]): then what was found out about it is, by its
// digest.
package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"time"

	"caravel/chunker"
	"caravel/index"
	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/local"
	"caravel/store/open"
)

// ErrOffline is why nothing was asked for. It matches store.ErrRefused: asking
// again is of no use.
var ErrOffline error = offlineError{}

type offlineError struct{}

func (offlineError) Error() string        { return "not in the cache, and offline nobody is asked" }
func (offlineError) Is(target error) bool { return target == store.ErrRefused }

// Options tunes Open. The zero value keeps nothing and has no side files.
type Options struct {
	Open    open.Options
	Offline bool         // ask nobody over a network
	Pin     *Pin         // the only index that will do; nil: any
	Sides   []string     // endings of the side files wanted, each with its dot
	Partial bool         // a large index may be read as far as it is needed: see Image.Index
	Log     *slog.Logger // nil: discard

	// Disk gives the cache that keeps what comes over a network, or nil. It is
	// called once it turns out that there is a network; nil: nothing is kept.
	Disk func() (*diskcache.Cache, error)
}

// A Pin names the one index file that may be read.
type Pin struct {
	Digest chunker.Digest
	ID     chunker.ID // the digest of the file
}

// partialFrom is the length of an index file from which on an image can be read
// sooner than its index: at 1 Gbit/s, 34 ms of the link.
const partialFrom = 4 << 20

// An Image is an index and the files beside it.
type Image struct {
	Index   *index.Index // nil: only as much as Table has is here, until Fill
	Table   index.Table
	ModTime time.Time // of the index; zero: unknown
	Remote  bool      // it lies behind a network

	location string
	opt      Options
	sides    sides
	keep     *keeper // nil: nothing is kept
	found    *found  // nil: nothing is, of an index on this machine

	file *open.File // of which Table reads; nil: Index is there
}

// Open reads the index at a location, a path, a URL or - for standard input,
// and begins to read the files beside it.
func Open(ctx context.Context, location string, opt Options) (*Image, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	img := &Image{location: location, opt: opt}
	if err := img.open(ctx); err != nil {
		img.Close()
		return nil, err
	}
	return img, nil
}

func (img *Image) open(ctx context.Context) (err error) {
	if img.Remote, err = remote(img.location, img.opt.Open); err != nil {
		return err
	}
	if !img.Remote {
		img.ask(ctx, img.opt.Sides)
		_, err := img.readWhole(ctx)
		return err
	}
	var disk *diskcache.Cache
	if img.opt.Disk != nil {
		if disk, err = img.opt.Disk(); err != nil {
			return err
		}
	}
	if disk == nil {
		if img.opt.Offline {
			return img.failed(ErrOffline)
		}
		img.ask(ctx, img.opt.Sides)
		_, err := img.read(ctx, store.Info{})
		return err
	}
	img.keep = newKeeper(disk, img.opt.Log, img.location)
	return img.openKept(ctx)
}

// remote reports whether there is a network before a location.
func remote(location string, opt open.Options) (bool, error) {
	if location == "-" {
		return false, nil
	}
	blobs, _, err := open.Object(location, opt)
	if err != nil {
		return false, err
	}
	_, here := blobs.(*local.Dir)
	return !here, nil
}

// openKept opens an image of which something may be kept.
func (img *Image) openKept(ctx context.Context) error {
	x := img.keep.load()
	if x == nil && img.opt.Offline {
		return img.failed(ErrOffline)
	}
	known := img.keep.sides(&img.sides, img.opt.Sides)
	if img.opt.Offline {
		img.keep.same()
		return img.use(x, img.keep.was.info())
	}
	img.ask(ctx, without(img.opt.Sides, known))
	info, err := img.read(ctx, img.keep.was.info())
	if errors.Is(err, store.ErrUnchanged) && x != nil {
		if err := img.use(x, img.keep.was.info()); err != nil {
			return err
		}
		img.keep.same()
		img.sides.busy.Go(img.settle)
		return nil
	}
	if err != nil {
		return err
	}
	// Of another index, what is known of its side files is that of the former.
	if img.Index == nil || sumOf(img.Index) != img.keep.was.Index {
		img.ask(ctx, known)
	}
	if img.Index != nil {
		img.keep.index(img.Index, info)
		img.sides.busy.Go(img.settle)
	}
	return nil
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// read reads the index, or of a large one the beginning, unless it is the
// version in have.
func (img *Image) read(ctx context.Context, have store.Info) (store.Info, error) {
	switch {
	case img.opt.Partial && img.opt.Pin == nil:
		return img.readPart(ctx, have)
	case have == (store.Info{}):
		return img.readWhole(ctx)
	}
	content, info, err := open.Refresh(ctx, img.location, have, math.MaxInt64-1, img.opt.Open)
	if err != nil {
		return info, err
	}
	return info, img.parse(bytes.NewReader(content), info)
}

// readWhole reads an index from its start to its end.
func (img *Image) readWhole(ctx context.Context) (store.Info, error) {
	r, info, err := open.Reader(ctx, img.location, img.opt.Open)
	if err != nil {
		return info, err
	}
	defer r.Close()
	return info, img.parse(r, info)
}

// readPart reads as much of a large index as it takes to begin.
func (img *Image) readPart(ctx context.Context, have store.Info) (store.Info, error) {
	f, err := open.Ranges(ctx, img.location, have, img.opt.Open)
	if err != nil {
		return store.Info{}, err
	}
	if f.Size() > partialFrom {
		t, err := index.NewRemote(ctx, f)
		if err != nil {
			f.Close()
			return store.Info{}, img.failed(err)
		}
		img.Table, img.file, img.ModTime = t, f, f.Info().ModTime
		return f.Info(), nil
	}
	defer f.Close()
	content, err := f.Content(ctx, partialFrom)
	if err != nil {
		return store.Info{}, err
	}
	return f.Info(), img.parse(bytes.NewReader(content), f.Info())
}

func (img *Image) parse(r io.Reader, info store.Info) error {
	x, err := index.Read(r, info.Size)
	if err != nil {
		return img.failed(err)
	}
	return img.use(x, info)
}

// use makes x the image's index, if it is the one that is wanted.
func (img *Image) use(x *index.Index, info store.Info) error {
	if err := img.opt.Pin.check(x); err != nil {
		return img.failed(err)
	}
	img.Index, img.Table, img.ModTime = x, x, info.ModTime
	return nil
}

// failed says of which image something is wrong.
func (img *Image) failed(err error) error {
	return fmt.Errorf("%s: %w", redact.URL(img.location), err)
}

// check refuses an index that is not the one named. Written again, an index is
// the file that it was read from.
func (p *Pin) check(x *index.Index) error {
	if p == nil {
		return nil
	}
	h := p.Digest.New()
	if _, err := x.WriteTo(h); err != nil {
		return err
	}
	if got := chunker.ID(h.Sum(nil)); got != p.ID {
		return fmt.Errorf("not the index asked for: its %v is %v, not %v", p.Digest, got, p.ID)
	}
	return nil
}

// The pauses before a Fill goes on: the first one, and the longest.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Fill reads what is not here of the index, all of which is checked then, and
// returns it. A server that is down for longer than anybody waits for a read is
// asked again until ctx ends. Only one goroutine may call it.
func (img *Image) Fill(ctx context.Context) (*index.Index, error) {
	r, ok := img.Table.(*index.Remote)
	if !ok {
		return img.Index, nil
	}
	x, err := r.Fill(ctx)
	for pause := firstPause; err != nil; pause = min(2*pause, longestPause) {
		if ctx.Err() != nil || store.Final(err) || errors.Is(err, index.ErrSpoilt) {
			return nil, img.failed(err)
		}
		img.opt.Log.Debug("rest of the index does not come", "image", redact.URL(img.location), "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		x, err = r.Fill(ctx)
	}
	img.keep.index(x, img.file.Info())
	img.sides.busy.Go(img.settle)
	return x, nil
}

// Doubt says that the index names a chunk that nobody has. An index has no digest of
// its own: it may have been damaged on its way, and its server would say for ever that
// this version is the one it still has. So the next time it is read again, unless it is
// the one that was wanted by its digest. It may be called from many goroutines.
func (img *Image) Doubt() {
	if img.opt.Pin == nil {
		img.keep.doubt()
	}
}

// settle keeps what is known, once all has come.
func (img *Image) settle() {
	known := img.sides.known()
	img.keep.settle(known)
}

// Close ends what is under way, and keeps what has come. What was read may be
// used after that, and Drop and Supply be called.
func (img *Image) Close() error {
	img.sides.close()
	img.settle()
	if img.file != nil {
		return img.file.Close()
	}
	return nil
}
