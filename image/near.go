package image

import (
	"context"
	"sync/atomic"

	"caravel/seed"
)

// keep finds out what is in place already. Where the target has holes nothing is, and the
// image's are.
func (e *extractor) keep(ctx context.Context) error {
	for row := range e.state {
		c := e.x.Chunk(row)
		if !e.isHole(c) || e.t.mayHold(c.Start, c.End()) {
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
	return e.pass(ctx, way{
		source: func(row int) (origin, int64, bool) {
			c := e.x.Chunk(row)
			return e.t, c.Start, e.t.mayHold(c.Start, c.End())
		},
		tally:   &e.kept,
		inPlace: true,
		found: func(start, end int64) {
			if e.ownSeed != nil {
				e.ownSeed.Known(start, end)
			}
		},
		missed: func(int) {},
	})
}

// probe tries what lies at the same place in seeds.
func (e *extractor) probe(ctx context.Context) error {
	for _, sd := range e.opt.Seeds.Seeds() {
		if data, ok := sd.Plain(); ok && e.anyMissing() {
			tries := &tries{}
			err := e.pass(ctx, way{
				source: func(row int) (origin, int64, bool) {
					c := e.x.Chunk(row)
					return sd, c.Start, !e.isHole(c) && data.Touches(c.Start, c.End()) && c.End() <= data[len(data)-1].End && tries.more(row)
				},
				tally:  &e.seeded,
				found:  func(start, end int64) { tries.hit(); sd.Known(start, end) },
				missed: func(int) { tries.missed.Add(1) },
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// tries keeps those who try in vain from reading all of a seed that has nothing, or has all
// of it elsewhere: that will be found when it is indexed.
type tries struct{ missed atomic.Int64 }

// patience is how many rows in a row may be tried in vain, and then one stretch of that many
// in eight still is.
const patience = 256

func (t *tries) more(row int) bool {
	return t.missed.Load() < patience || row/patience%8 == 0
}

func (t *tries) hit() { t.missed.Store(0) }

// copy indexes seeds, if something is missing, and copies what they have.
func (e *extractor) copy(ctx context.Context) error {
	if len(e.opt.Seeds.Seeds()) == 0 || !e.anyMissing() {
		return nil
	}
	if err := e.opt.Seeds.Index(ctx, e.missing); err != nil {
		return err
	}
	return e.pass(ctx, way{source: e.seedOf(e.opt.Seeds), tally: &e.seeded})
}

// seedOf is where rows are in a set of seeds.
func (e *extractor) seedOf(s *seed.Set) func(row int) (origin, int64, bool) {
	return func(row int) (origin, int64, bool) {
		sd, off, ok := s.Find(*e.x.ID(row))
		return sd, off, ok
	}
}
