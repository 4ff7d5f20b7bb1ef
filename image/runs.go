package image

import (
	"context"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/seed"
)

// An origin is what bytes of the image may be in: a seed, or the target itself.
type origin interface {
	io.ReaderAt
	Use(off, n int64, f func(file *os.File, at int64) error) error
}

// A way is how rows come into place.
type way struct {
	source  func(row int) (from origin, off int64, ok bool) // asked in the order of the rows, by one goroutine at a time
	tally   *tally
	inPlace bool                   // that is where they belong
	found   func(start, end int64) // is told of what was there; may be nil
	missed  func(row int)          // is told of what was not; may be nil
}

// A run is rows that follow one another, in the image and in an origin.
type run struct {
	first, last int // the last is not in it
	from        origin
	off         int64
}

// runBytes is how long a run may be. Between two of them that are shared a block is not.
const runBytes = 16 << 20

// A pass takes what can come one way.
type pass struct {
	*extractor
	way

	mu   sync.Mutex // guards next
	next int        // row
}

// pass has workers place all missing rows that have a source.
func (e *extractor) pass(ctx context.Context, w way) error {
	p := &pass{extractor: e, way: w}
	g, each := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			var b stretch
			for r, ok := p.take(); ok; r, ok = p.take() {
				if err := p.place(each, r, &b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// take is the next run, if there is one.
func (p *pass) take() (r run, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := int64(0) // of the run in its origin
	size := int64(0)
	for ; p.next < p.x.Len() && size < runBytes; p.next++ {
		if p.state[p.next] == placed {
			if ok {
				break
			}
			continue
		}
		from, off, has := p.source(p.next)
		switch {
		case !has && !ok:
			continue
		case !ok:
			r, ok, end = run{first: p.next, from: from, off: off}, true, off
		case !has || from != r.from || off != end:
			r.last = p.next
			return r, true
		}
		n := int64(p.x.Chunk(p.next).Size)
		size, end = size+n, end+n
	}
	r.last = p.next
	return r, ok
}

// A stretch is the memory of a worker: for some rows of a run.
type stretch struct {
	content []byte
	plains  [][]byte
	ids     []chunker.ID
}

// place brings a run into place, some rows at a time.
func (p *pass) place(ctx context.Context, r run, b *stretch) error {
	shared := p.share(r)
	for first := r.first; first < r.last; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		last, size := first, 0
		for ; last < r.last && last-first < chunker.SumsAtOnce; last++ {
			if size += p.x.Chunk(last).Size; size > partBytes && last > first {
				break
			}
		}
		if err := p.placeRows(r, first, last, shared, b); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// placeRows reads rows of a run, compares them, and writes what is right and not shared.
func (p *pass) placeRows(r run, first, last int, shared span, b *stretch) error {
	start, end := p.x.Chunk(first).Start, p.x.Chunk(last-1).End()
	if n := int(end - start); cap(b.content) < n {
		b.content = make([]byte, max(n, partBytes))
	}
	b.content = b.content[:end-start]
	n, why := p.read(r, b.content, start, shared)
	b.plains = b.plains[:0]
	for row := first; row < last; row++ {
		c := p.x.Chunk(row)
		if c.End()-start > int64(n) {
			break
		}
		b.plains = append(b.plains, b.content[c.Start-start:c.End()-start])
	}
	b.ids = append(b.ids[:0], make([]chunker.ID, len(b.plains))...)
	p.x.Digest().Sums(b.ids, b.plains)
	for row := first; row < last; {
		if i := row - first; i >= len(b.ids) || b.ids[i] != *p.x.ID(row) {
			p.miss(row, r, shared, why)
			row++
			continue
		}
		until := row + 1
		for until < last && until-first < len(b.ids) && b.ids[until-first] == *p.x.ID(until) && p.state[until] == p.state[row] {
			until++
		}
		at, to := p.x.Chunk(row).Start, p.x.Chunk(until-1).End()
		if err := p.writeAround(row, b.content[at-start:to-start], at, shared); err != nil {
			return err
		}
		for ; row < until; row++ {
			p.done(row, p.tally)
		}
		if p.found != nil {
			p.found(at, to)
		}
	}
	return nil
}

// miss takes note of a row that is not where it should be.
func (p *pass) miss(row int, r run, shared span, why error) {
	if !shared.empty() {
		p.state[row] = soiled
	}
	if p.missed != nil {
		p.missed(row)
	} else if sd, ok := r.from.(*seed.Seed); ok {
		sd.Doubt(why)
	}
}

// read fills b with what belongs at off, and returns how much there is.
func (p *pass) read(r run, b []byte, off int64, shared span) (n int, err error) {
	shift := r.off - p.x.Chunk(r.first).Start
	for n < len(b) {
		at, end := off+int64(n), off+int64(len(b))
		from, move := io.ReaderAt(r.from), shift
		switch {
		case shared.empty() || at >= shared.end:
		case at < shared.start:
			end = min(end, shared.start)
		default:
			from, move, end = p.t, 0, min(end, shared.end)
		}
		got, err := from.ReadAt(b[n:end-off], at+move)
		n += got
		if at+int64(got) < end {
			return n, err
		}
	}
	return n, nil
}

// writeAround writes what is not shared of b, which lies at off and begins with a row.
func (p *pass) writeAround(row int, b []byte, off int64, shared span) error {
	if p.inPlace || p.opt.DryRun {
		return nil
	}
	write := p.t.writeAt
	if p.state[row] == soiled {
		write = p.t.write
	}
	end := off + int64(len(b))
	if shared.empty() || shared.end <= off || shared.start >= end {
		return write(b, off)
	}
	if shared.start > off {
		if err := write(b[:shared.start-off], off); err != nil {
			return err
		}
	}
	p.cloned.Add(min(shared.end, end) - max(shared.start, off))
	if shared.end < end {
		return write(b[shared.end-off:], shared.end)
	}
	return nil
}

// A span is the bytes [start, end) of the image.
type span struct{ start, end int64 }

func (s span) empty() bool { return s.start >= s.end }

// minClone is the shortest stretch that is worth an extent of its own.
const minClone = 32 << 10

// share has the target share the blocks of a run, as far as that goes, and returns what it
// shares now: whatever the origin had there at that moment.
func (p *pass) share(r run) span {
	if p.inPlace || p.opt.DryRun || !p.t.clones {
		return span{}
	}
	start, end := p.x.Chunk(r.first).Start, p.x.Chunk(r.last-1).End()
	shift := r.off - start
	block := p.t.block
	s := span{(start + block - 1) / block * block, end / block * block}
	if shift%block != 0 || s.end-s.start < minClone {
		return span{}
	}
	begun := false
	err := r.from.Use(s.start+shift, s.end-s.start, func(f *os.File, at int64) error {
		err := clone(p.t.file, s.start, f, at, s.end-s.start)
		begun = !isUnclonable(err)
		return err
	})
	if err == nil {
		return s
	}
	if begun { // some of it may be shared: no hole is one any more
		for row := r.first; row < r.last; row++ {
			p.state[row] = soiled
		}
	}
	return span{}
}
