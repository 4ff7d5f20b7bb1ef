package image

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/index"
	"caravel/seed"
	"caravel/store"
)

// ExtractOptions tunes Extract. The zero value is a good choice.
type ExtractOptions struct {
	InPlace  bool          // write into the existing file instead of replacing it
	Fill     bool          // write zeros where a hole would do
	NoSync   bool          // do not wait until the image is on disk
	InFlight int           // chunks worked on at one time; 0: 128
	Progress *atomic.Int64 // counts bytes of the image that are in place; nil: nobody looks

	Seeds     *seed.Set    // of the image, what on this machine may have its chunks; nil: nothing. They are indexed as far as needed
	NoOld     bool         // what the target holds is no seed; what is in its place is kept all the same
	NoReflink bool         // copy what could share blocks with a seed
	Log       *slog.Logger // what is wrong with the target as a seed, a warning each; nil: discard

	// DryRun finds out where the bytes would come from, and writes nothing.
	DryRun bool

	// Fetch, if set, is told of each chunk that is going to be fetched, before any is.
	Fetch func(c index.Chunk)
}

// Extracted says where an image's bytes came from.
type Extracted struct {
	Kept     Share // were in place already
	Holes    Share // are chunks of zeros, not asked for
	Seeded   Share // came from seeds
	Repeated Share // are the same as others of the image
	Fetched  Share // came from the store
	Cloned   int64 // bytes, of those from seeds and repeated ones, that share their blocks
	Block    int64 // of what is shared, and of the target's file system; 0: not known
}

// A Share is a part of an image.
type Share struct{ Chunks, Bytes int64 }

// Extract writes the whole image to path: a file, which appears under its name
// only when it is complete and on disk, or a block device, which is written in
// place after its size was checked. An existing file's mode and owner are kept
// and a symbolic link is followed. A pipe, a socket or a character device gets
// the bytes in order, see [Stream].
//
// It goes from the near to the far. First comes what is in place already: on a block
// device, in a file that is written in place, or in what an interrupted run left beside the
// target. Of what else the target holds, what has moved goes where it belongs now, each piece
// before another one takes its place. Then come the seeds, the former content of a file that
// is replaced among them: what lies at the same offset is tried first, which finds most of a
// disk's next version for the price of the digests that have to be compared anyway, and only
// if something is missing they are indexed. What the image repeats is copied; the rest is
// fetched, each chunk once. On file systems that can, the blocks of seeds are shared rather
// than copied, and what is compared with the digest is then what the target has.
func Extract(ctx context.Context, x *index.Index, s store.Store, path string, opt ExtractOptions) (Extracted, error) {
	opt.InFlight = cmp.Or(opt.InFlight, defaultInFlight)
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Seeds == nil {
		opt.Seeds = seed.New(x, seed.Options{})
		defer opt.Seeds.Close()
	}
	t, err := openTarget(path, x, opt)
	if err != nil {
		return Extracted{}, err
	}
	if t.sequential {
		return extractStream(ctx, x, s, t, opt)
	}
	e := &extractor{x: x, s: s, t: t, opt: opt, zero: zeroID(x.Digest(), x.Params.Max), state: make([]state, x.Len())}
	if err = e.useOld(); err == nil {
		err = e.run(ctx)
	}
	switch {
	case opt.DryRun:
		t.close()
		return e.extracted(), err
	case err == nil:
		err = t.commit(!opt.NoSync)
	}
	if err != nil {
		got := e.extracted()
		err = t.abandon(err, got.Kept.Bytes+got.Seeded.Bytes+got.Fetched.Bytes > 0)
	}
	return e.extracted(), err
}

func extractStream(ctx context.Context, x *index.Index, s store.Store, t *target, opt ExtractOptions) (Extracted, error) {
	all := Extracted{Fetched: Share{int64(x.Len()), x.Size()}}
	if opt.DryRun {
		if opt.Fetch != nil {
			e := &extractor{x: x, state: make([]state, x.Len())}
			for _, row := range e.twins().firsts() {
				opt.Fetch(x.Chunk(int(row[0])))
			}
		}
		return all, nil
	}
	stop := context.AfterFunc(ctx, func() { t.file.Close() }) // ends a write that waits for a pipe's reader
	defer stop()
	err := Stream(ctx, x, s, t.file, 0, x.Size(), StreamOptions{InFlight: opt.InFlight, Progress: opt.Progress})
	if closeErr := t.file.Close(); err == nil {
		err = closeErr
	}
	return all, err
}

// A state is what has become of a row of the index.
type state uint8

const (
	absent state = iota // is not in place
	soiled              // the same, and other bytes are where the target had a hole
	placed
)

// An extractor is one run of Extract into a target that can be written at any
// offset.
type extractor struct {
	x     *index.Index
	s     store.Store
	t     *target
	opt   ExtractOptions
	zero  chunker.ID
	state []state // of the rows, each changed by whoever works on it

	own     *seed.Set  // what a target holds that is written in place; nil: nothing
	ownSeed *seed.Seed // of it

	kept, holes, seeded, repeated, fetched tally
	cloned                                 atomic.Int64
}

// A tally is a Share while it grows.
type tally struct{ chunks, bytes atomic.Int64 }

func (t *tally) share() Share { return Share{t.chunks.Load(), t.bytes.Load()} }

func (e *extractor) extracted() Extracted {
	return Extracted{
		Kept:     e.kept.share(),
		Holes:    e.holes.share(),
		Seeded:   e.seeded.share(),
		Repeated: e.repeated.share(),
		Fetched:  e.fetched.share(),
		Cloned:   e.cloned.Load(),
		Block:    e.t.block,
	}
}

// done counts a row that is in place.
func (e *extractor) done(row int, as *tally) {
	size := int64(e.x.Chunk(row).Size)
	e.state[row] = placed
	as.chunks.Add(1)
	as.bytes.Add(size)
	e.opt.Progress.Add(size)
}

// isHole reports whether a chunk is the longest that zeros are cut into.
func (e *extractor) isHole(c index.Chunk) bool { return c.Size == e.x.Params.Max && c.ID == e.zero }

// missing reports whether a row's bytes are still to be found.
func (e *extractor) missing(row int) bool {
	return e.state[row] != placed && !e.isHole(e.x.Chunk(row))
}

func (e *extractor) anyMissing() bool {
	for row := range e.state {
		if e.missing(row) {
			return true
		}
	}
	return false
}

func (e *extractor) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		e.keep, e.move, e.clear, e.probe, e.copy, e.repeat, e.fetch, e.repeat,
	} {
		err := step(ctx)
		if err = cmp.Or(context.Cause(ctx), err); err != nil {
			return err
		}
	}
	for row, s := range e.state {
		if s != placed { // no image is better than half of one
			c := e.x.Chunk(row)
			return fmt.Errorf("image: bytes %d to %d: nothing has put them in place", c.Start, c.End())
		}
	}
	return nil
}

// useOld makes a seed of what the target holds, or of what is going to be replaced.
func (e *extractor) useOld() (err error) {
	switch {
	case e.opt.NoOld || e.t.old == nil:
	case e.t.part != "":
		if err := e.opt.Seeds.Add(e.t.path); err != nil {
			e.opt.Log.Warn("seed cannot be used", "seed", e.t.path, "err", err)
		}
	case len(e.t.data) > 0:
		e.own = seed.New(e.x, seed.Options{Most: mostOld(e.x), Log: e.opt.Log})
		e.ownSeed, err = e.own.AddFile(e.t.file)
	}
	return err
}

// mostOld is how many bytes of what a target holds are looked through: it may be a disk that is
// many times as large as the image.
func mostOld(x *index.Index) int64 { return 2*x.Size() + 64<<20 }

// clear makes the holes of what is none yet.
func (e *extractor) clear(ctx context.Context) error {
	for row := range e.state {
		if e.state[row] == placed {
			continue
		}
		c := e.x.Chunk(row)
		if !e.isHole(c) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := e.t.clear(c.Start, int64(c.Size)); err != nil {
			return err
		}
		e.done(row, &e.holes)
	}
	return nil
}

// fetch gets what is nowhere near, many chunks at a time and each once.
func (e *extractor) fetch(ctx context.Context) error {
	rows := e.twins().firsts()
	if e.opt.Fetch != nil {
		for _, row := range rows {
			e.opt.Fetch(e.x.Chunk(int(row[0])))
		}
	}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(e.opt.InFlight)
	weight := semaphore.NewWeighted(max(inFlightBytes, int64(e.x.Params.Max)))
	for _, same := range rows {
		size := int64(e.x.Chunk(int(same[0])).Size)
		if weight.Acquire(running, size) != nil {
			break
		}
		g.Go(func() error {
			defer weight.Release(size)
			return e.fetchOne(running, same)
		})
	}
	return cmp.Or(g.Wait(), context.Cause(ctx))
}

// fetchOne gets one chunk for the rows that have it. Where blocks can be shared, the first of
// them has it, and the others copy it from there.
func (e *extractor) fetchOne(ctx context.Context, rows []int32) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.opt.DryRun {
		e.done(int(rows[0]), &e.fetched)
		for _, row := range rows[1:] {
			e.done(int(row), &e.repeated)
		}
		return nil
	}
	chunk, plain, err := get(ctx, e.x, e.s, e.x.Chunk(int(rows[0])))
	if err != nil {
		return err
	}
	defer chunk.Release()
	as := &e.fetched
	for _, row := range rows {
		if err := e.write(int(row), plain); err != nil {
			return err
		}
		e.done(int(row), as)
		if e.t.clones {
			break
		}
		as = &e.repeated
	}
	return nil
}

// write puts a row's bytes where they belong.
func (e *extractor) write(row int, plain []byte) error {
	if e.opt.DryRun {
		return nil
	}
	if e.state[row] == soiled {
		return e.t.write(plain, e.x.Chunk(row).Start)
	}
	return e.t.writeAt(plain, e.x.Chunk(row).Start)
}

// isStream reports whether path is something that can only be written in order.
func isStream(st os.FileInfo) bool {
	return st.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0
}
