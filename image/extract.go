package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/index"
	"caravel/store"
)

// ExtractOptions tunes Extract. The zero value is a good choice.
type ExtractOptions struct {
	InPlace  bool          // write into the existing file instead of replacing it
	Fill     bool          // write zeros where a hole would do
	NoSync   bool          // do not wait until the image is on disk
	InFlight int           // chunks worked on at one time; 0: 128
	Progress *atomic.Int64 // counts bytes of the image that are in place; nil: nobody looks
}

// Extracted says where an image's bytes came from.
type Extracted struct {
	Kept    int64 // bytes that were in place already
	Holes   int64 // bytes of chunks of zeros, not asked for
	Fetched int64 // bytes from the store
}

// Extract writes the whole image to path: a file, which appears under its name
// only when it is complete and on disk, or a block device, which is written in
// place after its size was checked. An existing file's mode and owner are kept
// and a symbolic link is followed. A pipe, a socket or a character device gets
// the bytes in order, see [Stream].
//
// What an interrupted run leaves beside the target is found by the next one for
// the same image and target: whatever is right in it is not fetched again. The
// same holds for what lies on a block device or, with InPlace, in the file.
func Extract(ctx context.Context, x *index.Index, s store.Store, path string, opt ExtractOptions) (Extracted, error) {
	if opt.InFlight == 0 {
		opt.InFlight = defaultInFlight
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	t, err := openTarget(path, x, opt)
	if err != nil {
		return Extracted{}, err
	}
	if t.sequential {
		return extractStream(ctx, x, s, t, opt)
	}
	e := &extractor{x: x, s: s, t: t, opt: opt, zero: zeroID(x.Digest(), x.Params.Max)}
	err = e.run(ctx)
	if err == nil {
		err = t.commit(!opt.NoSync)
	}
	if err != nil {
		err = t.abandon(err, e.kept.Load()+e.fetched.Load() > 0)
	}
	return e.extracted(), err
}

func extractStream(ctx context.Context, x *index.Index, s store.Store, t *target, opt ExtractOptions) (Extracted, error) {
	stop := context.AfterFunc(ctx, func() { t.file.Close() }) // ends a write that waits for a pipe's reader
	defer stop()
	err := Stream(ctx, x, s, t.file, 0, x.Size(), StreamOptions{InFlight: opt.InFlight, Progress: opt.Progress})
	if closeErr := t.file.Close(); err == nil {
		err = closeErr
	}
	return Extracted{Fetched: opt.Progress.Load()}, err
}

// An extractor is one run of Extract into a target that can be written at any
// offset.
type extractor struct {
	x    *index.Index
	s    store.Store
	t    *target
	opt  ExtractOptions
	zero chunker.ID

	kept, holes, fetched atomic.Int64
}

func (e *extractor) extracted() Extracted {
	return Extracted{Kept: e.kept.Load(), Holes: e.holes.Load(), Fetched: e.fetched.Load()}
}

func (e *extractor) run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(e.opt.InFlight)
	weight := semaphore.NewWeighted(max(inFlightBytes, int64(e.x.Params.Max)))
	for i := range e.x.Len() {
		c := e.x.Chunk(i)
		if weight.Acquire(running, int64(c.Size)) != nil {
			break
		}
		g.Go(func() error {
			defer weight.Release(int64(c.Size))
			err := e.place(running, c)
			if err == nil {
				e.opt.Progress.Add(int64(c.Size))
			}
			return err
		})
	}
	err := g.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

// place sees to it that one chunk's bytes are where they belong.
func (e *extractor) place(ctx context.Context, c index.Chunk) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ok, err := e.inPlace(c); ok || err != nil {
		return err
	}
	if c.ID == e.zero && c.Size == e.x.Params.Max {
		e.holes.Add(int64(c.Size))
		return e.t.clear(c.Start, int64(c.Size))
	}
	chunk, plain, err := get(ctx, e.x, e.s, c)
	if err != nil {
		return err
	}
	defer chunk.Release()
	if err := e.t.writeAt(plain, c.Start); err != nil {
		return err
	}
	e.fetched.Add(int64(c.Size))
	return nil
}

// inPlace reports whether the target holds the chunk already.
func (e *extractor) inPlace(c index.Chunk) (bool, error) {
	if !e.t.mayHold(c.Start, c.End()) {
		return false, nil
	}
	p := e.t.buffers.get(c.Size)
	defer e.t.buffers.put(p)
	_, err := e.t.file.ReadAt(*p, c.Start)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("image: %w", err)
	case e.x.Digest().Sum(*p) != c.ID:
		return false, nil
	}
	e.kept.Add(int64(c.Size))
	return true, nil
}

// isStream reports whether path is something that can only be written in order.
func isStream(st os.FileInfo) bool {
	return st.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0
}
