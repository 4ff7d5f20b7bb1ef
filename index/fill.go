package index

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Fill reads all rows that are not there, checks the whole as Read does, and
// returns it. It is called in the background; from then on the Remote answers as
// the Index, and reads no more. Rows are used as they come. After an error of
// reading, the next call goes on where this one ended.
func (x *Remote) Fill(ctx context.Context) (*Index, error) {
	select {
	case x.filling <- struct{}{}:
		defer func() { <-x.filling }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if whole := x.whole.Load(); whole != nil {
		return whole, nil
	}
	rows, err := x.front()
	if err != nil {
		return nil, err
	}
	if rows, err = x.fill(ctx, rows); err != nil {
		return nil, err
	}
	whole := &Index{Flags: x.flags, Params: x.params, rows: rows}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		return nil, x.bad
	}
	x.whole.Store(whole)
	return whole, nil
}

// front is the rows that are here from the first one on.
func (x *Remote) front() ([]row, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		return nil, x.bad
	}
	return x.known[0].rows, nil
}

// A piece is some rows under way.
type piece struct {
	first int
	level int // of the pace
	b     []byte
	took  time.Duration
	err   error
	done  chan struct{} // closed when took and err are set
}

// fill reads what follows rows, piece by piece, the next ones while one is
// checked.
func (x *Remote) fill(ctx context.Context, rows []row) ([]row, error) {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	var p pace
	var coming []*piece // in their order
	var free [][]byte
	for next := len(rows); ; {
		for next < x.n && len(coming) < p.flights() {
			n := min(p.rows(), x.n-next)
			one := &piece{first: next, level: p.level, done: make(chan struct{})}
			if last := len(free) - 1; last >= 0 {
				one.b, free = free[last], free[:last]
			}
			one.b = slices.Grow(one.b[:0], n*rowSize)[:n*rowSize]
			readers.Go(func() { x.readPiece(ctx, one) })
			coming = append(coming, one)
			next += n
		}
		if len(coming) == 0 {
			return rows, nil
		}
		one := coming[0]
		<-one.done
		if one.err != nil {
			return nil, one.err
		}
		p.took(one.level, one.took)
		var err error
		if rows, err = x.extend(rows, one.b); err != nil {
			return nil, err
		}
		coming, free = coming[1:], append(free, one.b)
	}
}

func (x *Remote) readPiece(ctx context.Context, p *piece) {
	defer close(p.done)
	began := time.Now()
	p.err = x.readInto(ctx, p.b, rowOffset(p.first))
	p.took = time.Since(began)
}

// extend appends the rows in b to those from the first one on, and compares them
// with what was known.
func (x *Remote) extend(rows []row, b []byte) ([]row, error) {
	had, n := len(rows), len(b)/rowSize
	c := rowChecker{n: had, start: uint64(rows[had-1].end), max: x.params.Max}
	rows = grow(rows, n, int64(x.n))[:had+n]
	good := c.take(rows[had:], b)

	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		return nil, x.bad
	}
	if good < n {
		return nil, x.spoil(c.refuse(b[good*rowSize:]))
	}
	front := stretch{0, 0, rows}
	behind := 1 // the stretches that front does not hold
	for ; behind < len(x.known) && x.known[behind].first < len(rows); behind++ {
		if err := same(front, x.known[behind]); err != nil {
			return nil, x.spoil(err)
		}
	}
	row, off := x.n, x.size
	if behind < len(x.known) {
		row, off = x.known[behind].first, x.known[behind].start
	}
	if !x.fits(row-front.end(), off-front.endOff()) {
		return nil, x.spoil(x.misfit(row, off, front.end(), front.endOff()))
	}
	x.known = slices.Replace(x.known, 0, behind, front)
	return rows, nil
}

// A pace is how much a Fill asks for at once. It goes up a level as long as that
// brings more in the same time, by a quarter at least: beyond that, a request waits
// behind the others, and so does whatever else comes over the link.
type pace struct {
	level int
	times [levels]time.Duration // that a request of each level took lately; 0: not known
	calm  int                   // answers since a level was tried
	down  bool                  // that was the one below
}

// levels: one request of 256 KiB at a time, two of them, two of 512 KiB … two of
// 4 MiB.
const levels = 6

// rows is how many to ask for in one request, whole blocks.
func (p *pace) rows() int { return blockRows << max(p.level-1, 0) }

// flights is how many requests may be under way.
func (p *pace) flights() int { return min(p.level+1, 2) }

// took takes note of how long a request of a level took.
func (p *pace) took(level int, d time.Duration) {
	const again = 16 // answers, until the levels above and below are tried again, in turns
	p.times[level] = d
	above, below := level+1, level-1
	p.calm++
	switch {
	case level != p.level: // of before
	case below >= 0 && p.times[below] > 0 && !better(p.times[below], d):
		p.level, p.calm = below, 0
	case above < levels && (p.times[above] == 0 || better(d, p.times[above])):
		p.level, p.calm = above, 0
	case p.calm >= again:
		p.down, p.calm = !p.down, 0
		if p.down {
			p.level = max(below, 0)
		} else if above < levels {
			p.times[above] = 0
		}
	}
}

// better reports whether twice as much in another time is worth it.
func better(once, twice time.Duration) bool { return 5*twice <= 8*once }
