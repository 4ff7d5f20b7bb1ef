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
	Memory int64 // budget behind the image, in bytes; 0: 64 MiB
	Window int64 // most bytes ahead of a stream; 0: a quarter of Memory, at most 32 MiB
	Chunk  int64 // average chunk of the image, the smallest window; 0: 64 KiB
}

// Stats counts what the read-ahead of a Reader was good for, in bytes of the
// image. What travelled is in blockcache.MemoryStats.
type Stats struct {
	Asked int64 // hinted at
	Used  int64 // of those, read
	Left  int64 // of those, not read when their stream was given up
}

// A Reader reads an image and fetches ahead of sequential and strided streams,
// several at a time. Its methods may be called from many goroutines.
type Reader struct {
	img   Image
	ahead Ahead
	size  int64

	open atomic.Int32 // streams known: without one no state need be asked for

	mu      sync.Mutex // guards what follows
	limit   limit
	runs    runs
	strides strides
	stats   Stats
}

// NewReader reads img and gives its hints to ahead, the same image in another
// class. It owns neither.
func NewReader(img Image, ahead Ahead, opt Options) *Reader {
	memory := cmp.Or(opt.Memory, 64<<20)
	window := cmp.Or(opt.Window, min(memory/4, 32<<20))
	chunk := cmp.Or(opt.Chunk, 64<<10)
	return &Reader{
		img:   img,
		ahead: ahead,
		size:  img.Size(),
		limit: limit{chunk: chunk, now: max(window, chunk), most: max(window, chunk)},
	}
}

// Size is the length of the image in bytes.
func (r *Reader) Size() int64 { return r.size }

// Stats is what the read-ahead was good for so far.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

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
	state    blockcache.State // of the last chunk, before the read
}

func (rd read) len() int64 { return rd.end - rd.off }

// observe finds the stream that a read belongs to and returns what to ask for.
func (r *Reader) observe(off, n int64) []blockcache.Range {
	rd := read{off: off, end: off + n, state: blockcache.Resident}
	if r.open.Load() > 0 {
		rd.state, _ = r.ahead.State(rd.end - 1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.open.Store(int32(r.runs.open + r.strides.open)) }()
	if u := r.runs.find(rd); u != nil {
		return r.goOn(u, rd)
	}
	if s, steps := r.strides.find(rd); s != nil {
		return r.step(s, steps, rd)
	}
	r.left(r.runs.begin(rd, &r.limit))
	if s, ok := r.strides.detect(rd, &r.limit); ok {
		slot, unread := r.strides.begin(s, &r.limit)
		r.left(unread)
		return r.step(slot, 0, rd)
	}
	return nil
}

// goOn moves a sequential stream forward by a read.
func (r *Reader) goOn(u *run, rd read) []blockcache.Range {
	pos := u.hi
	r.left(r.runs.extend(u, rd, &r.limit))
	switch {
	case u.hi == pos || u.reads < proof:
		return nil
	case !u.open:
		r.runs.prove(u, rd.len(), &r.limit)
	default:
		r.stats.Used += u.window.advance(pos, u.hi, rd.state, &r.limit)
	}
	known := u.window.mark
	from, to := u.window.extend(u.hi, r.size, r.limit.chunk)
	if from == to {
		return nil
	}
	r.stats.Asked += max(to-max(from, known), 0)
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
		r.stats.Used += s.window.advance(pos, s.count*s.cost, rd.state, &r.limit)
	}
	known := s.window.mark
	from, to := s.window.extend(s.count*s.cost, s.end(r.size), s.cost)
	if from == to {
		return nil
	}
	s.window.asked -= (to - from) % s.cost // whole steps
	var hints []blockcache.Range
	for pos := from + s.cost; pos <= to; pos += s.cost {
		off := s.off + (pos/s.cost-s.count)*s.step
		hints = append(hints, blockcache.Range{Off: off, Len: s.size})
		if pos > known {
			r.stats.Asked += s.cost
		}
	}
	return hints
}

// left counts what a stream that was given up has not read.
func (r *Reader) left(unread int64) { r.stats.Left += unread }
