package chunker

import (
	"cmp"
	"context"
	"io"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
)

// A Sparse reader knows where it would give nothing but zeros.
type Sparse interface {
	io.Reader

	// Hole passes the zeros that come next, if it knows of any, and returns how many
	// these are. Read stops before those that Hole would pass.
	Hole() (int64, error)
}

// A Piece is a chunk of a stream, or many equal ones that follow one another.
type Piece struct {
	Plain []byte // to be read only, until Release
	Hole  bool   // Plain is nothing but zeros
	Times int    // how often the chunk comes, at least once; more than once only for holes

	release func()
}

// NewPiece is a chunk whose bytes come from elsewhere; release, if it is not nil, gives them back.
func NewPiece(plain []byte, release func()) *Piece {
	return &Piece{Plain: plain, Times: 1, release: release}
}

// Release gives the bytes back. It is called once.
func (p *Piece) Release() {
	if p.release != nil {
		p.release()
	}
}

// SplitOptions tunes Split. The zero value is a good choice.
type SplitOptions struct {
	Workers  int // segments that are marked at one time; 0: one a core
	Segments int // how many there are at one time, of 1 MiB each; 0: 16, and two a worker
}

// Split is Chunks on all cores: it reads r in segments, finds the places for cuts in many at
// one time and cuts in order. Of what is in a segment nothing is copied but the chunk at its
// end. Holes of r, if it is Sparse, are neither read nor looked at.
//
// Pieces are released in any order, from any goroutine, and must be: there are only so many
// segments. A read that waits is not interrupted by the end of ctx; whoever opened r closes
// it.
func Split(ctx context.Context, r io.Reader, p Params, opt SplitOptions) iter.Seq2[*Piece, error] {
	return func(yield func(*Piece, error) bool) {
		c, err := NewCutter(p)
		if err != nil {
			yield(nil, err)
			return
		}
		opt.Workers = cmp.Or(opt.Workers, runtime.GOMAXPROCS(0))
		opt.Segments = max(cmp.Or(opt.Segments, 16+2*opt.Workers), 2)
		ctx, cancel := context.WithCancel(ctx)
		s := &splitter{
			ctx:     ctx,
			cutter:  c,
			free:    make(chan *segment, opt.Segments),
			todo:    make(chan *segment, opt.Segments),
			ordered: make(chan *segment, opt.Segments),
			yield:   yield,
		}
		for range opt.Segments {
			s.free <- nil // made when it is needed
		}
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		all.Go(func() { s.read(r) })
		for range opt.Workers {
			all.Go(s.mark)
		}
		s.cut()
	}
}

// segmentSize is how many bytes of a stream are marked by one core.
const segmentSize = 1 << 20

// A segment is a part of a stream on its way: bytes, or a hole.
type segment struct {
	buf    []byte // bytes of the segment before, as far as windows reach back, then its own
	lead   int    // how many of the first kind
	marks  Marks
	hole   int64         // not 0: there is nothing else
	err    error         // what came behind it
	marked chan struct{} // of room 1
	held   atomic.Int32  // by pieces, and by cut
}

// A splitter is one run of Split.
type splitter struct {
	ctx     context.Context
	cutter  *Cutter
	free    chan *segment
	todo    chan *segment // to be marked
	ordered chan *segment // to be cut
	yield   func(*Piece, error) bool

	size    int    // bytes of the chunk that is under way
	carried []byte // those of them that lie in former segments
	carries sync.Pool
	zeros   []byte // the chunk that holes consist of
}

// read fills segments to the end of the stream.
func (s *splitter) read(r io.Reader) {
	defer close(s.todo)
	defer close(s.ordered)
	holes, _ := r.(Sparse)
	in := segmentReader{r: r, holes: holes}
	for {
		g, err := s.take()
		if err != nil {
			return
		}
		in.fill(g)
		bytes, ended := g.hole == 0, g.err != nil
		if bytes { // there is room for all of them
			s.todo <- g
		}
		s.ordered <- g // from here on it is not ours
		if ended {
			return
		}
	}
}

// take waits for a segment that nobody needs.
func (s *splitter) take() (*segment, error) {
	select {
	case g := <-s.free:
		if g == nil {
			g = &segment{marked: make(chan struct{}, 1)}
		}
		g.held.Store(1)
		return g, nil
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

// mark marks segments.
func (s *splitter) mark() {
	for g := range s.todo {
		if s.ctx.Err() != nil {
			return
		}
		if g.marks == nil {
			g.marks = NewMarks(cap(g.buf))
		}
		s.cutter.Mark(g.marks[:(len(g.buf)+63)/64], g.buf)
		g.marked <- struct{}{}
	}
}

// A segmentReader makes segments of a stream.
type segmentReader struct {
	r     io.Reader
	holes Sparse // r, if it knows of any; or nil
	hole  int64  // what is left of one
	lead  [window - 1]byte
	had   int // bytes of lead, at its end
}

// fill puts the next part of the stream into g.
func (in *segmentReader) fill(g *segment) {
	g.hole, g.err = 0, nil
	if in.hole > 0 { // its first bytes were made, which are all that lead needs
		g.hole, in.hole = in.hole, 0
		return
	}
	if g.buf == nil {
		g.buf = make([]byte, 0, window-1+segmentSize)
	}
	g.buf = append(g.buf[:0], in.lead[len(in.lead)-in.had:]...)
	g.lead = len(g.buf)
	for empty := 0; len(g.buf) < cap(g.buf) && g.err == nil; {
		if stop := in.holeBegins(g); stop {
			break
		}
		n, err := in.r.Read(g.buf[len(g.buf):cap(g.buf)])
		g.buf, g.err = g.buf[:len(g.buf)+n], err
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			g.err = io.ErrNoProgress
		}
	}
	in.had = copy(in.lead[len(in.lead)-min(len(in.lead), len(g.buf)):], g.buf[max(len(g.buf)-len(in.lead), 0):])
}

// holeBegins ends g if a hole comes next. A window that lies in the hole as a whole needs no
// look: the bytes before that are put into g, with those behind which it begins.
func (in *segmentReader) holeBegins(g *segment) bool {
	switch {
	case in.holes == nil:
		return false
	case len(g.buf)+window > cap(g.buf):
		return true // if one does, the next segment begins with it
	}
	n, err := in.holes.Hole()
	if g.err = err; n == 0 {
		return err != nil
	}
	some := min(n, window)
	g.buf = append(g.buf, make([]byte, some)...)
	in.hole = n - some
	return in.hole > 0
}

// cut goes through the segments in order.
func (s *splitter) cut() {
	for g := range s.ordered {
		if g.hole == 0 {
			select {
			case <-g.marked:
			case <-s.ctx.Done():
				s.yield(nil, context.Cause(s.ctx))
				return
			}
		}
		if more := s.bytes(g) && s.holes(g); !more {
			return
		}
		err := g.err
		s.release(g)
		switch {
		case err == io.EOF:
			if s.size > 0 {
				s.yield(s.carry(), nil)
			}
			return
		case err != nil:
			s.yield(nil, err)
			return
		}
	}
	s.yield(nil, context.Cause(s.ctx))
}

// bytes cuts the bytes of a segment; false if nobody wants more.
func (s *splitter) bytes(g *segment) bool {
	if g.hole > 0 {
		return true
	}
	for at := g.lead; at < len(g.buf); {
		end, ended := s.cutter.End(g.marks, at, len(g.buf), s.size)
		p := NewPiece(g.buf[at:end:end], func() { s.release(g) })
		if ended && s.size == 0 {
			g.held.Add(1)
		} else {
			s.carryOn(p.Plain)
			p = nil
		}
		if ended && p == nil {
			p = s.carry()
		}
		if p != nil && !s.yield(p, nil) {
			return false
		}
		at = end
	}
	return true
}

// holes cuts the hole that a segment may be; false if nobody wants more.
func (s *splitter) holes(g *segment) bool {
	if g.hole == 0 {
		return true
	}
	if s.zeros == nil {
		s.zeros = make([]byte, s.cutter.zeros(0))
	}
	if s.size > 0 {
		n := int(min(int64(s.cutter.zeros(s.size)), g.hole))
		ended := n == s.cutter.zeros(s.size)
		s.carryOn(s.zeros[:n])
		g.hole -= int64(n)
		if ended && !s.yield(s.carry(), nil) {
			return false
		}
	}
	times := g.hole / int64(len(s.zeros))
	if times > 0 && !s.yield(&Piece{Plain: s.zeros, Hole: true, Times: int(times)}, nil) {
		return false
	}
	if rest := int(g.hole % int64(len(s.zeros))); rest > 0 {
		s.carryOn(s.zeros[:rest])
	}
	return true
}

// carryOn keeps bytes of a chunk whose end is in no segment that is here.
func (s *splitter) carryOn(b []byte) {
	if s.carried == nil {
		if former, ok := s.carries.Get().(*[]byte); ok {
			s.carried = (*former)[:0]
		}
	}
	s.carried = append(s.carried, b...)
	s.size = len(s.carried)
}

// carry is the chunk that was carried on.
func (s *splitter) carry() *Piece {
	b := s.carried
	s.carried, s.size = nil, 0
	return NewPiece(b[:len(b):len(b)], func() { s.carries.Put(&b) })
}

// release gives up a hold on a segment.
func (s *splitter) release(g *segment) {
	if g.held.Add(-1) == 0 {
		s.free <- g
	}
}
