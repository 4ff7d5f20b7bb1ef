package image

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
)

// move brings what a target that is written in place holds elsewhere to where it belongs.
// That is done before anything else is written.
func (e *extractor) move(ctx context.Context) error {
	if e.own == nil || !e.anyMissing() {
		return nil
	}
	if err := e.own.Index(ctx, e.missing); err != nil {
		return err
	}
	if e.opt.DryRun {
		return e.pass(ctx, way{source: e.seedOf(e.own), tally: &e.seeded})
	}
	m := e.newMover()
	for m.left > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A mover has the rows that are in the target, but elsewhere. A row may be written when all
// others that lie where it belongs have been read; of those that wait for one another in a
// circle, one is held in memory.
type mover struct {
	*extractor
	from  []int64 // of each row, where it lies; -1: nowhere, or it has been read
	waits []int32 // of each row, how many others lie where it belongs and have not been read
	ready []int32 // may be read and written
	left  int     // rows that have not been read
	first int     // no row before it has to be read

	held      map[int32][]byte // was read, and may not be written yet
	heldBytes int
}

func (e *extractor) newMover() *mover {
	m := &mover{extractor: e, from: make([]int64, e.x.Len()), waits: make([]int32, e.x.Len()), held: map[int32][]byte{}}
	for row := range m.from {
		m.from[row] = -1
		if !e.missing(row) {
			continue
		}
		if _, off, ok := e.own.Find(*e.x.ID(row)); ok {
			m.from[row] = off
			m.left++
		}
	}
	for row := range m.from {
		m.over(row, func(other int) { m.waits[other]++ })
	}
	for row, off := range m.from {
		if off >= 0 && m.waits[row] == 0 {
			m.ready = append(m.ready, int32(row))
		}
	}
	return m
}

// over calls f for the other rows that will move to where a row lies.
func (m *mover) over(row int, f func(other int)) {
	off := m.from[row]
	if off < 0 || off >= m.x.Size() {
		return
	}
	first, last := m.x.Range(off, int64(m.x.Chunk(row).Size))
	for other := first; other < last; other++ {
		if _, held := m.held[int32(other)]; other != row && (m.from[other] >= 0 || held) {
			f(other)
		}
	}
}

// step reads some rows, and writes them.
func (m *mover) step(ctx context.Context) error {
	if len(m.ready) == 0 {
		return m.hold()
	}
	n, size := 0, 0
	for n < len(m.ready) && n < chunker.SumsAtOnce*runtime.GOMAXPROCS(0) && (n == 0 || size < inFlightBytes) {
		size += m.x.Chunk(int(m.ready[n])).Size
		n++
	}
	rows := m.ready[:n:n]
	m.ready = m.ready[n:]
	plains, err := m.readAll(ctx, rows)
	if err != nil {
		return err
	}
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, row := range rows {
		if plains[i] == nil { // it is something else by now
			continue
		}
		g.Go(func() error { return m.put(row, plains[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, row := range rows {
		if err := m.leave(row); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads rows from where they lie; nil: that is not the chunk.
func (m *mover) readAll(ctx context.Context, rows []int32) ([][]byte, error) {
	plains := make([][]byte, len(rows))
	g, _ := errgroup.WithContext(ctx)
	each := (len(rows) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	for first := 0; first < len(rows); first += each {
		g.Go(func() error {
			rows, plains := rows[first:min(first+each, len(rows))], plains[first:min(first+each, len(rows))]
			ids := make([]chunker.ID, len(rows))
			for i, row := range rows {
				plains[i] = make([]byte, m.x.Chunk(int(row)).Size)
				if n, _ := m.t.ReadAt(plains[i], m.from[row]); n < len(plains[i]) {
					clear(plains[i]) // of other bytes it has the wrong digest
				}
			}
			m.x.Digest().Sums(ids, plains)
			for i, row := range rows {
				if ids[i] != *m.x.ID(int(row)) {
					plains[i] = nil
				}
			}
			return nil
		})
	}
	return plains, g.Wait()
}

func (m *mover) put(row int32, plain []byte) error {
	if err := m.write(int(row), plain); err != nil {
		return err
	}
	m.done(int(row), &m.seeded)
	return nil
}

// hold reads a row that others wait for, and that cannot be written yet. If too many are held
// already it is given up, and comes from elsewhere.
func (m *mover) hold() error {
	for m.from[m.first] < 0 {
		m.first++
	}
	row := int32(m.first)
	c := m.x.Chunk(m.first)
	if m.heldBytes+c.Size <= inFlightBytes {
		plains, err := m.readAll(context.Background(), []int32{row})
		if err != nil {
			return err
		}
		if plains[0] != nil {
			m.held[row] = plains[0]
			m.heldBytes += c.Size
		}
	}
	return m.leave(row)
}

// leave takes note that a row has been read, and lets those go on that waited for it.
func (m *mover) leave(row int32) error {
	var free []int32
	m.over(int(row), func(other int) {
		if m.waits[other]--; m.waits[other] == 0 {
			free = append(free, int32(other))
		}
	})
	m.from[row] = -1
	m.left--
	for _, other := range free {
		plain, held := m.held[other]
		if !held {
			m.ready = append(m.ready, other)
			continue
		}
		delete(m.held, other)
		m.heldBytes -= len(plain)
		if err := m.put(other, plain); err != nil {
			return err
		}
	}
	return nil
}
