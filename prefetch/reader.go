package prefetch

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"caravel/blockcache"
)

// Options tunes a Reader. The zero value goes with a memory of 64 MiB.
type Options struct {
	Memory  int64  // budget behind the image, in bytes; 0: 64 MiB
	Window  int64  // most bytes ahead of a stream; 0: a quarter of Memory, at most 32 MiB
	Chunk   int64  // average chunk of the image, the smallest window; 0: 64 KiB
	Metered bool   // bytes cost money: Window is at most four chunks
	Group   *Group // of the readers that read the same image; nil: it has one
}

// A Group is what the Readers of an image have in common, of which there may be
// one for each file of a tree: how far to read ahead, and the counters. The zero
// value is ready to use.
type Group struct {
	mu    sync.Mutex // guards what follows, and all of its readers
	limit limit
	stats Stats
}

// Stats counts what read-ahead was good for, in bytes of the image. What
// travelled is in blockcache.MemoryStats.
type Stats struct {
	Asked int64 `json:"asked"` // hinted at
	Used  int64 `json:"used"`  // of those, read
	Left  int64 `json:"left"`  // of those, not read when their stream was given up
}

// Stats is what the read-ahead of all readers was good for so far.
func (g *Group) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// begin takes the limit from the options of the first reader.
func (g *Group) begin(opt Options) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit.most == 0 {
		chunk := max(cmp.Or(opt.Chunk, 64<<10), 1)
		window := cmp.Or(opt.Window, min(cmp.Or(opt.Memory, 64<<20)/4, 32<<20))
		if opt.Metered {
			window = min(window, meteredChunks*chunk)
		}
		window = max(window, chunk)
		g.limit = limit{chunk: chunk, now: window, most: window}
	}
}

const meteredChunks = 4

// A Reader reads an image and fetches ahead of sequential and strided streams,
// several at a time. Its methods may be called from many goroutines.
type Reader struct {
	img   Image
	ahead Ahead
	size  int64

	open atomic.Int32 // streams known: without one no state need be asked for

	group   *Group
	runs    runs    // guarded by group.mu
	strides strides // the same
}

// NewReader reads img and gives its hints to ahead, the same image in another
// class. It owns neither.
func NewReader(img Image, ahead Ahead, opt Options) *Reader {
	group := opt.Group
	if group == nil {
		group = new(Group)
	}
	group.begin(opt)
	return &Reader{img: img, ahead: ahead, size: img.Size(), group: group}
}

// Close counts what was asked for and not read. The reader may go on: it has
// forgotten its streams.
func (r *Reader) Close() error {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	r.left(r.runs.close(&r.group.limit) + r.strides.close(&r.group.limit))
	r.open.Store(0)
	return nil
}

// Size is the length of the image in bytes.
func (r *Reader) Size() int64 { return r.size }

// Stats is what the read-ahead of its group was good for so far.
func (r *Reader) Stats() Stats { return r.group.Stats() }

// ReadAt reads from the image, by the rules of io.ReaderAt, and fetches ahead
// if the read belongs to a stream.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= 0 && off < r.size && len(p) > 0 {
		if hints := r.observe(off, min(int64(len(p)), r.size-off)); len(hints) > 0 {
			r.ahead.Want(hints...)
		}
	}
	return r.img.ReadAt(ctx, p, off)
}

// A read is one that was observed.
type read struct {
	off, end int64
	state    blockcache.State // of its chunks, before the read: Resident if it need not wait
}

func (rd read) len() int64 { return rd.end - rd.off }

// observe finds the stream that a read belongs to and returns what to ask for.
func (r *Reader) observe(off, n int64) []blockcache.Range {
	rd := read{off: off, end: off + n, state: blockcache.Resident}
	if r.open.Load() > 0 {
		rd.state = r.state(rd)
	}
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	defer func() { r.open.Store(int32(r.runs.open + r.strides.open)) }()
	if u := r.runs.find(rd); u != nil {
		return r.goOn(u, rd)
	}
	if s, steps := r.strides.find(rd); s != nil {
		return r.step(s, steps, rd)
	}
	r.left(r.runs.begin(rd, &r.group.limit))
	if s, ok := r.strides.detect(rd, &r.group.limit); ok {
		slot, unread := r.strides.begin(s, &r.group.limit)
		r.left(unread)
		return r.step(slot, 0, rd)
	}
	return nil
}

// state looks at both ends of a read: a stream that runs backwards arrives at
// what is new with the first byte.
func (r *Reader) state(rd read) blockcache.State {
	first, end := r.ahead.State(rd.off)
	if first != blockcache.Resident || end >= rd.end {
		return first
	}
	last, _ := r.ahead.State(rd.end - 1)
	return last
}

// goOn moves a sequential stream forward by a read.
func (r *Reader) goOn(u *run, rd read) []blockcache.Range {
	pos := u.hi
	r.left(r.runs.extend(u, rd, &r.group.limit))
	switch {
	case u.hi == pos || u.reads < proof:
		return nil
	case !u.open:
		r.runs.prove(u, rd.len(), &r.group.limit)
	default:
		r.group.stats.Used += u.window.advance(pos, u.hi, rd.state, &r.group.limit)
	}
	known := u.window.mark
	from, to := u.window.extend(u.hi, r.size, r.group.limit.chunk)
	if from == to {
		return nil
	}
	r.group.stats.Asked += max(to-max(from, known), 0)
	return []blockcache.Range{{Off: from, Len: to - from}}
}

// step moves a strided stream on by some steps.
func (r *Reader) step(s *stride, steps int64, rd read) []blockcache.Range {
	if steps < 0 {
		return nil
	}
	if steps > 0 {
		pos := s.count * s.cost
		s.count, s.off = s.count+steps, rd.off
		r.group.stats.Used += s.window.advance(pos, s.count*s.cost, rd.state, &r.group.limit)
	}
	known := s.window.mark
	from, to := s.window.extend(s.count*s.cost, s.end(r.size), s.cost)
	if from == to {
		return nil
	}
	to -= (to - from) % s.cost // whole steps
	s.window.asked = to
	r.group.stats.Asked += max(to-max(from, known/s.cost*s.cost), 0)
	return s.hints(from/s.cost+1, to/s.cost)
}

// left counts what a stream that was given up has not read.
func (r *Reader) left(unread int64) { r.group.stats.Left += unread }
