package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// MakeOptions tunes Make. The zero value is casync's default.
type MakeOptions struct {
	Params  chunker.Params // zero: chunker.DefaultParams
	Digest  chunker.Digest
	Flags   feature.Flags // what the index says was made, and how; 0: of a blob; else they name Digest, too
	Workers int           // chunks digested, packed and stored at one time; 0: one a core. A store that answers late wants more

	// CheckExisting reads the chunks that the store has already, and writes
	// those anew that are damaged. Without it a chunk is there if its size is
	// plausible.
	CheckExisting bool

	// Base are chunks that dst is believed to have, unless with CheckExisting; nil: none. No worker waits for
	// the answer whether it has them: many are asked for at one time, and one that is missing is
	// the end of Make.
	Base *Roots

	// NoDigest leaves Made.Digest out. A hash takes one block after the other, on one core,
	// those of holes as well: SHA-512/256 600 MB/s on a Zen 5, SHA-256 with its SHA extensions
	// 1.5 GB/s. Of 4 GiB, of which 1.8 are data and in the store, all the rest takes
	// 2.5 s of processor time on all cores, the digest alone 7 s on one.
	NoDigest bool

	// Parts gives the chunks, in place of Make's reader, of which Make then knows nothing;
	// nil: they are cut from that. With a digest none may be known behind one that is not.
	Parts iter.Seq2[Part, error]

	// State is offered the state of the digest of the stream behind each Part, as far as there is
	// one, and takes what it wants of it. row is the Part's row in the index, the first one of
	// many if its Times are more than 1; behind the last Part it is offered once more, with
	// last, as that of the last row.
	State func(row int, last bool, state func() []byte)

	// Interrupt is called when Make fails, though its ctx goes on, to end a read of its reader
	// that waits, for a pipe; nil: none waits for long.
	Interrupt func()

	Progress *atomic.Int64 // counts plain bytes done; nil: nobody looks
}

// Made is what Make leaves beside the chunks.
type Made struct {
	Index  *index.Index
	Digest chunker.ID // of the whole stream, what casync's make prints; not with NoDigest
	Stored int64      // chunks that were new to the store
	Reused int64      // chunks that the store had, or that repeat in the image
}

// Make cuts all of r into chunks and puts those that dst lacks into it; with a
// nil dst it only finds out the index. When it returns without an error, the
// chunks are on disk: what is left is to write the index.
//
// Reading, cutting, the digest of the stream and those of the chunks, many at a time, run
// beside the workers, which take a chunk each through lookup, compression and store. The
// chunks come out of them in any order and are put in order again at the end only.
func Make(ctx context.Context, r io.Reader, dst store.Writer, opt MakeOptions) (*Made, error) {
	if opt.Params == (chunker.Params{}) {
		opt.Params = chunker.DefaultParams()
	}
	if err := opt.Params.Cuttable(); err != nil {
		return nil, err
	}
	if opt.Flags == 0 {
		opt.Flags = feature.Blob(opt.Digest)
	}
	if err := opt.Flags.Check(); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if named := opt.Flags.Digest(); named != opt.Digest {
		return nil, fmt.Errorf("image: flags %#x name %v, not %v", uint64(opt.Flags), named, opt.Digest)
	}
	if opt.Workers == 0 {
		opt.Workers = runtime.GOMAXPROCS(0)
	}
	if opt.Base != nil {
		opt.Base.sort()
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	m := &maker{
		dst:     dst,
		opt:     opt,
		builder: index.NewBuilder(opt.Flags, opt.Params),
		zero:    zeroID(opt.Digest, opt.Params.Max),
		weight:  semaphore.NewWeighted(max(inFlightBytes, mostBehind+int64(opt.Params.Max))),
		cuts:    make(chan *makeJob, 2*chunker.SumsAtOnce),
		jobs:    make(chan *makeJob),
		stream:  make(chan *makeJob, 16),
		ordered: make(chan *makeJob, 1024),
		sum:     opt.Digest.New(),
		putting: make(map[chunker.ID]chan struct{}),
		trusted: make(map[chunker.ID]struct{}),
		asking:  make(chan struct{}, asksAtOnce),
	}
	var err error
	if m.known, err = simplelru.NewLRU[chunker.ID, struct{}](knownIDs, nil); err != nil {
		return nil, err
	}
	return m.run(ctx, r)
}

// A maker is one run of Make.
type maker struct {
	dst     store.Writer
	opt     MakeOptions
	builder *index.Builder
	zero    chunker.ID
	weight  *semaphore.Weighted // bytes between cutting and storing

	cuts    chan *makeJob // to the digests of chunks
	jobs    chan *makeJob // to the workers, with an id
	stream  chan *makeJob // to the digest of the stream
	ordered chan *makeJob // to the index, in the image's order

	sum            hash.Hash
	stored, reused atomic.Int64
	group          *errgroup.Group // of all stages
	asking         chan struct{}   // one for each question about a chunk of the base

	mu      sync.Mutex // guards what follows
	putting map[chunker.ID]chan struct{}
	known   *simplelru.LRU[chunker.ID, struct{}] // in the store: they were found or put
	trusted map[chunker.ID]struct{}              // of the base: the store was, or is just being asked
}

// knownIDs is how many chunks are known to be in the store, at most, so that it is
// not asked for them again: those that repeat in an image, above all holes, do so
// soon, and each question costs a round trip where there is a network.
const knownIDs = 1 << 14

// A makeJob is one chunk on its way.
type makeJob struct {
	part   Part
	holder atomic.Int32 // who still reads its bytes: a worker, the stream's digest
	id     chunker.ID
	done   chan struct{} // closed when the chunk is in the store and id is set
	filler
}

func (m *maker) run(outer context.Context, r io.Reader) (*Made, error) {
	g, ctx := errgroup.WithContext(outer)
	m.group = g
	context.AfterFunc(ctx, func() {
		if m.opt.Interrupt != nil && context.Cause(ctx) != context.Canceled { // which is what Wait leaves
			m.opt.Interrupt()
		}
	})
	g.Go(func() error { return m.cut(ctx, r) })
	g.Go(func() error { return m.digest(ctx) })
	g.Go(func() error { return m.collect(ctx) })
	g.Go(func() error { return m.identify(ctx) })
	for range m.opt.Workers {
		g.Go(func() error { return m.work(ctx) })
	}
	err := g.Wait()
	if err = cmp.Or(context.Cause(outer), err); err != nil {
		return nil, err
	}
	if m.dst != nil {
		if err := m.dst.Sync(outer); err != nil {
			return nil, err
		}
	}
	made := &Made{Index: m.builder.Index(), Stored: m.stored.Load(), Reused: m.reused.Load()}
	if !m.opt.NoDigest {
		made.Digest = chunker.ID(m.sum.Sum(nil))
	}
	return made, nil
}

// cut feeds the other stages.
func (m *maker) cut(ctx context.Context, r io.Reader) error {
	defer close(m.cuts)
	defer close(m.stream)
	defer close(m.ordered)
	to := []chan *makeJob{m.ordered, m.cuts}
	if !m.opt.NoDigest {
		to = append(to, m.stream)
	}
	for part, err := range m.parts(ctx, r) {
		if err != nil {
			return err
		}
		if err := m.weight.Acquire(ctx, int64(part.size())); err != nil {
			return context.Cause(ctx)
		}
		j := &makeJob{part: part, done: make(chan struct{})}
		j.holder.Store(int32(len(to) - 1)) // collect does not look at the bytes
		for _, to := range to {
			select {
			case to <- j:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// source is r, which a long read of does not outlive the run, with the holes that it knows of.
func (m *maker) source(ctx context.Context, r io.Reader) io.Reader {
	c := contextReader{ctx, r}
	if holes, ok := r.(chunker.Sparse); ok {
		return sparseReader{c, holes}
	}
	return c
}

// collect writes the index's rows as the chunks get ready.
func (m *maker) collect(ctx context.Context) error {
	for j := range m.ordered {
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for range j.part.Times {
			if err := m.builder.Append(j.id, j.part.size()); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// identify gives the chunks their ids, on as many cores as there are.
func (m *maker) identify(ctx context.Context) error {
	defer close(m.jobs)
	var all errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() error {
			b := batch{jobs: make([]*makeJob, 0, chunker.SumsAtOnce)}
			for b.fill(m.cuts) {
				b.sum(m)
				for _, j := range b.jobs {
					select {
					case m.jobs <- j:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// A batch is chunks whose ids are found together.
type batch struct {
	jobs   []*makeJob
	plains [][]byte     // of those that have to be digested
	wants  []*makeJob   // which these are
	ids    []chunker.ID // theirs
}

// fill takes as many chunks as there are, one at least, and waits for none but that; false
// if none will come.
func (b *batch) fill(from <-chan *makeJob) bool {
	clear(b.jobs)
	b.jobs = b.jobs[:0]
	j, ok := <-from
	for ok {
		b.jobs = append(b.jobs, j)
		if len(b.jobs) == cap(b.jobs) {
			break
		}
		select {
		case j, ok = <-from:
		default:
			return true
		}
	}
	return len(b.jobs) > 0
}

// sum finds the ids; that of the longest hole is known.
func (b *batch) sum(m *maker) {
	b.plains, b.wants = b.plains[:0], b.wants[:0]
	for _, j := range b.jobs {
		if j.part.Known != nil {
			j.id = j.part.Known.ID
			continue
		}
		plain := j.part.Plain
		if len(plain) == m.opt.Params.Max && (j.part.Hole || isZero(plain)) {
			j.id = m.zero
			continue
		}
		b.plains, b.wants = append(b.plains, plain), append(b.wants, j)
	}
	b.ids = append(b.ids[:0], make([]chunker.ID, len(b.wants))...)
	m.opt.Digest.Sums(b.ids, b.plains)
	for i, j := range b.wants {
		j.id = b.ids[i]
	}
	clear(b.plains)
	clear(b.wants)
}

func (m *maker) work(ctx context.Context) error {
	for j := range m.jobs {
		if err := m.keep(ctx, j); err != nil {
			return err
		}
		m.opt.Progress.Add(int64(j.part.size()) * int64(j.part.Times))
		m.reused.Add(int64(j.part.Times) - 1)
		close(j.done)
		m.drop(j)
	}
	return ctx.Err()
}

// keep puts the chunk into the store, unless it is there or another worker is
// just putting the same one: then it waits for that. What a worker has seen to the
// next one need not.
func (m *maker) keep(ctx context.Context, j *makeJob) error {
	if m.dst == nil {
		return nil
	}
	if m.opt.Base != nil && !m.opt.CheckExisting && m.opt.Base.has(j.id) {
		m.reused.Add(1)
		return m.trust(ctx, j)
	}
	m.mu.Lock()
	if _, ok := m.known.Get(j.id); ok {
		m.mu.Unlock()
		m.reused.Add(1)
		return nil
	}
	if other, ok := m.putting[j.id]; ok {
		m.mu.Unlock()
		m.reused.Add(1)
		select {
		case <-other:
			return nil // had it failed, its worker's error would end the run
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	done := make(chan struct{})
	m.putting[j.id] = done
	m.mu.Unlock()
	err := m.see(ctx, j)
	m.mu.Lock()
	delete(m.putting, j.id)
	if err == nil {
		m.known.Add(j.id, struct{}{})
	}
	m.mu.Unlock()
	close(done)
	return err
}

// asksAtOnce is how many chunks of the base a store is asked for at one time.
const asksAtOnce = 128

// trust has somebody else make sure, once, that a chunk of the base is there.
func (m *maker) trust(ctx context.Context, j *makeJob) error {
	m.mu.Lock()
	_, ok := m.trusted[j.id]
	m.trusted[j.id] = struct{}{}
	m.mu.Unlock()
	if ok {
		return nil
	}
	select {
	case m.asking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	want := store.Want{ID: j.id, Size: j.part.size(), Digest: m.opt.Digest}
	m.group.Go(func() error {
		defer func() { <-m.asking }()
		there, err := m.dst.Has(ctx, want)
		if err == nil && !there {
			err = fmt.Errorf("image: chunk %v: is in the base, but not in the store: make the image without the base", want.ID)
		}
		return err
	})
	return nil
}

// see puts the chunk into the store unless it is there.
func (m *maker) see(ctx context.Context, j *makeJob) error {
	there, err := m.there(ctx, store.Want{ID: j.id, Size: j.part.size(), Digest: m.opt.Digest})
	if err != nil {
		return err
	}
	if there {
		m.reused.Add(1)
		return nil
	}
	plain, err := j.bytes(m.opt.Digest)
	if err != nil {
		return err
	}
	m.stored.Add(1)
	c := store.NewChunk(j.id, m.opt.Digest, plain, nil)
	defer c.Release()
	return m.dst.Put(ctx, c)
}

// there reports whether the store has a chunk that need not be written.
func (m *maker) there(ctx context.Context, want store.Want) (bool, error) {
	if !m.opt.CheckExisting {
		return m.dst.Has(ctx, want)
	}
	c, err := m.dst.Get(ctx, want)
	if err == nil {
		err = c.Verify()
		c.Release()
	}
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt) {
		return false, nil
	}
	return err == nil, err
}

// drop gives the bytes back when their last reader is done.
func (m *maker) drop(j *makeJob) {
	if j.holder.Add(-1) == 0 {
		j.part.Release()
		j.plain = nil // the job itself may wait for its place in the index
		if j.part.Known != nil {
			j.part.Known.Fill = nil
		}
		m.weight.Release(int64(j.part.size()))
	}
}

// A contextReader ends a long read of a file when the run is over. It cannot
// interrupt a read that waits (a pipe): whoever opened that closes it, by Interrupt.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("image: reading the source: %w", err)
	}
	return n, err
}

// A sparseReader is one that knows of holes.
type sparseReader struct {
	contextReader
	holes chunker.Sparse
}

func (r sparseReader) Hole() (int64, error) {
	n, err := r.holes.Hole()
	if err != nil {
		err = fmt.Errorf("image: reading the source: %w", err)
	}
	return n, err
}
