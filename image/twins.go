package image

import (
	"context"
	"slices"

	"caravel/chunker"
)

// twins are the rows that are missing, those with the same chunk side by side.
type twins struct {
	e    *extractor
	rows []int32
}

func (e *extractor) twins() *twins {
	t := &twins{e: e}
	for row := range e.state {
		if e.missing(row) {
			t.rows = append(t.rows, int32(row))
		}
	}
	e.x.SortByID(t.rows)
	return t
}

// find is the first place in rows of a chunk.
func (t *twins) find(id *chunker.ID) (int, bool) { return t.e.x.SearchByID(t.rows, *id) }

// firsts are the rows of each chunk, in the order of the image.
func (t *twins) firsts() [][]int32 {
	var all [][]int32
	for first := 0; first < len(t.rows); {
		last := first + 1
		for last < len(t.rows) && *t.e.x.ID(int(t.rows[last])) == *t.e.x.ID(int(t.rows[first])) {
			last++
		}
		all = append(all, t.rows[first:last])
		first = last
	}
	slices.SortFunc(all, func(a, b []int32) int { return int(a[0] - b[0]) })
	return all
}

// repeat copies what is in place elsewhere in the image.
func (e *extractor) repeat(ctx context.Context) error {
	t := e.twins()
	if len(t.rows) == 0 {
		return nil
	}
	from := make([]int32, len(t.rows)) // of the first of each, which row has it, plus one
	found := false
	for row := range e.state {
		if e.state[row] != placed {
			continue
		}
		if at, ok := t.find(e.x.ID(row)); ok && from[at] == 0 {
			from[at], found = int32(row)+1, true
		}
	}
	if !found {
		return nil
	}
	source := func(row int) (origin, int64, bool) {
		at, ok := t.find(e.x.ID(row))
		if !ok || from[at] == 0 {
			return nil, 0, false
		}
		return e.t, e.x.Chunk(int(from[at] - 1)).Start, true
	}
	if !e.opt.DryRun {
		return e.pass(ctx, way{source: source, tally: &e.repeated})
	}
	for _, row := range t.rows { // there is nothing to read
		if _, _, ok := source(int(row)); ok {
			e.done(int(row), &e.repeated)
		}
	}
	return nil
}
