package seed

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/internal/extents"
)

// Index finds out where in the seeds the wanted rows of the image are (nil: all of them),
// beside what is known already. A seed that cannot be read is a warning, and what was found
// in it until then is of use. There is one Index at a time.
func (s *Set) Index(ctx context.Context, wanted func(row int) bool) error {
	searching := s.table.want(wanted)
	for _, sd := range s.seeds {
		if !searching || sd.done {
			continue
		}
		var err error
		if searching, err = s.index(ctx, sd); err != nil {
			return err
		}
	}
	return nil
}

// index looks through one seed, and returns false if nothing is wanted any more. The error is
// that ctx has ended.
func (s *Set) index(ctx context.Context, sd *Seed) (more bool, err error) {
	sd.done = true
	if sd.rows != nil {
		return s.believe(sd), nil
	}
	cutter, err := chunker.NewCutter(s.x.Params)
	if err != nil { // no one could have cut so
		s.opt.Log.Warn("no seed is of use", "err", err)
		return false, nil
	}
	sc := &scan{set: s, seed: sd, cutter: cutter, max: s.x.Params.Max}
	sc.hole = cutter.Next(make([]byte, sc.max))
	sd.mu.Lock()
	known := extents.Union(sd.known)
	sd.known = nil
	sd.mu.Unlock()
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sc.enough = func() { cancel(errEnough) }
	err = sd.from.scan(inner, sc, known)
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(context.Cause(inner), errEnough):
		return false, nil
	case err != nil:
		s.opt.Log.Warn("seed is read in part only", "seed", sd.Name, "err", err)
	}
	return true, nil
}

var errEnough = errors.New("seed: all is found")

// believe takes where chunks are from the seed's own index.
func (s *Set) believe(sd *Seed) bool {
	more := true
	var pieces [chunker.SumsAtOnce]piece
	for i := 0; i < sd.rows.Len() && more; {
		n := 0
		for ; n < len(pieces) && i < sd.rows.Len(); n, i = n+1, i+1 {
			c := sd.rows.Chunk(i)
			pieces[n] = piece{c.ID, c.Start}
		}
		more = s.table.note(sd.number, pieces[:n])
	}
	return more
}

// A scan is the cutting of one seed. It is used by many goroutines.
type scan struct {
	set    *Set
	seed   *Seed
	cutter *chunker.Cutter
	max    int
	hole   int    // the length of the chunks that a hole is cut into
	enough func() // ends it
}

// windowBytes is how much is cut and digested together.
const windowBytes = 2 << 20

// buffer has room for a window, and a chunk that begins in it.
func (s *scan) buffer() []byte { return make([]byte, windowBytes+s.max) }

// cuts finds the chunks in b, which lies at off, and returns how much of it they are: what is
// left is less than the longest chunk, unless last says that nothing follows.
func (s *scan) cuts(to [][]byte, b []byte, last bool) (pieces [][]byte, n int) {
	for n < len(b) && (last || len(b)-n >= s.max) {
		size := s.cutter.Next(b[n:])
		to = append(to, b[n:n+size])
		n += size
	}
	return to, n
}

// sum digests pieces that lie at off in the seed, one behind the other, and takes note of
// them.
func (s *scan) sum(off int64, plains [][]byte) {
	ids := make([]chunker.ID, len(plains))
	s.set.x.Digest().Sums(ids, plains)
	pieces := make([]piece, len(plains))
	for i, p := range plains {
		pieces[i] = piece{ids[i], off}
		off += int64(len(p))
	}
	if !s.set.table.note(s.seed.number, pieces) {
		s.enough()
	}
}

// A job is a part of a stream that one worker cuts: from start on, until a chunk ends at or
// behind end.
type job struct {
	start, end int64
	stop       int64 // where the stream ends
}

// jobBytes is how many bytes of data a job has.
const jobBytes = 64 << 20

// jobs divides what has to be cut of a stream, of which data is no hole. A job that begins in
// the midst of data begins lead bytes early: by then its cuts are those from the beginning.
func jobs(data, known extents.List, size, lead int64) []job {
	var all []job
	room, first := int64(0), int64(0) // of the last job: bytes of data that it still takes, and the cut in front of it
	for _, part := range data.Minus(known) {
		for part.Start < part.End {
			cut := floor(known, part.Start)
			if room == 0 || cut != first {
				start := cut
				if data.Touches(cut, part.Start) {
					start = max(part.Start-lead, cut)
				}
				all = append(all, job{start: start, stop: size})
				room, first = jobBytes, cut
			}
			n := min(room, part.End-part.Start)
			part.Start += n
			room -= n
			all[len(all)-1].end = part.Start
		}
	}
	return all
}

// floor is where the last known part in front of off ends: there a chunk begins.
func floor(known extents.List, off int64) int64 {
	if i := known.Behind(off); i > 0 {
		return known[i-1].End
	}
	return 0
}

// runJobs has the workers do jobs on r. Their holes are those between data.
func (s *scan) runJobs(ctx context.Context, r io.ReaderAt, data extents.List, all []job) error {
	var mu sync.Mutex // guards all
	next := func() (j job, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(all) == 0 {
			return job{}, false
		}
		j, all = all[0], all[1:]
		return j, true
	}
	g, each := errgroup.WithContext(ctx)
	for range min(s.set.opt.Workers, len(all)) {
		g.Go(func() error {
			b := s.buffer()
			for j, ok := next(); ok; j, ok = next() {
				if err := s.work(each, r, data, j, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// work does one job, with a buffer.
func (s *scan) work(ctx context.Context, r io.ReaderAt, data extents.List, j job, b []byte) error {
	var plains [][]byte
	have := 0 // bytes in b, which lie at j.start
	for j.start < j.end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if skipped := s.skip(data, j.start, j.stop); skipped > j.start {
			j.start, have = skipped, 0
			continue
		}
		// A window behind the end is enough for the last chunk to end.
		want := int(min(int64(len(b)), j.end+int64(s.max)-j.start, j.stop-j.start))
		if want > have {
			n, err := r.ReadAt(b[have:want], j.start+int64(have))
			if have += n; have < want {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
		}
		last := j.start+int64(have) >= j.stop
		var n int
		if plains, n = s.cuts(plains[:0], b[:have], last); n == 0 {
			return nil
		}
		s.sum(j.start, plains)
		have = copy(b, b[n:have])
		j.start += int64(n)
	}
	return nil
}

// skip passes over the chunks that a hole at off consists of.
func (s *scan) skip(data extents.List, off, stop int64) int64 {
	i := data.Behind(off)
	end := stop
	if i < len(data) {
		end = data[i].Start
	}
	if end <= off {
		return off
	}
	return off + (end-off)/int64(s.hole)*int64(s.hole)
}

// scanStream cuts what r gives, to its end. passed is told of the bytes in their order.
func (s *scan) scanStream(ctx context.Context, r io.Reader, passed func(b []byte) error) error {
	type window struct {
		b      []byte
		off    int64
		plains [][]byte
	}
	free, full := make(chan *window, s.set.opt.Workers+1), make(chan *window)
	for range cap(free) {
		free <- &window{b: s.buffer()}
	}
	g, each := errgroup.WithContext(ctx)
	for range s.set.opt.Workers {
		g.Go(func() error {
			for w := range full {
				s.sum(w.off, w.plains)
				free <- w
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(full)
		var rest []byte // of the last window, behind its last cut
		for off := int64(0); ; {
			if each.Err() != nil {
				return context.Cause(each)
			}
			w := <-free
			held := copy(w.b, rest)
			got, err := io.ReadFull(r, w.b[held:])
			if err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			if err != nil && err != io.EOF {
				return err
			}
			if bad := passed(w.b[held : held+got]); bad != nil {
				return bad
			}
			var n int
			w.off = off
			w.plains, n = s.cuts(w.plains[:0], w.b[:held+got], err == io.EOF)
			rest = append(rest[:0], w.b[n:held+got]...)
			off += int64(n)
			full <- w
			if err == io.EOF {
				return nil
			}
		}
	})
	return g.Wait()
}
