package seed

import (
	"slices"
	"sync"

	"caravel/chunker"
	"caravel/index"
)

// A table says of the chunks of an image where they lie in seeds.
type table struct {
	x    *index.Index
	rows []int32 // one of each ID, by ID

	mu      sync.Mutex // guards what follows
	seeds   []int32    // of rows, which seed has it; -1: none known, -2: nobody wants it
	offs    []int64    // where in that
	missing int        // wanted, but not known where
}

const (
	nowhere  = -1
	unwanted = -2
)

func newTable(x *index.Index) *table {
	t := &table{x: x, rows: x.RowsByID()}
	t.rows = slices.CompactFunc(t.rows, func(a, b int32) bool { return *x.ID(int(a)) == *x.ID(int(b)) })
	t.seeds = make([]int32, len(t.rows))
	t.offs = make([]int64, len(t.rows))
	for i := range t.seeds {
		t.seeds[i] = nowhere
	}
	t.missing = len(t.rows)
	return t
}

// want begins a search for those chunks of which one of the rows is wanted (nil: all); the
// others are not looked for. It returns false if there are none to look for.
func (t *table) want(row func(int) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if row != nil {
		for i, seed := range t.seeds {
			if seed == nowhere {
				t.seeds[i] = unwanted
			}
		}
		t.missing = 0
		for i := range t.x.Len() {
			if !row(i) {
				continue
			}
			if at, ok := t.find(*t.x.ID(i)); ok && t.seeds[at] == unwanted {
				t.seeds[at] = nowhere
				t.missing++
			}
		}
	}
	return t.missing > 0
}

// find is the place of a chunk in rows, which do not change.
func (t *table) find(id chunker.ID) (int, bool) {
	return t.x.SearchByID(t.rows, id)
}

// A piece is what was cut of a seed.
type piece struct {
	id  chunker.ID
	off int64
}

// note takes note of where pieces are, and returns false if nothing is wanted any more.
func (t *table) note(seed int32, pieces []piece) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range pieces {
		if at, ok := t.find(p.id); ok && t.seeds[at] == nowhere {
			t.seeds[at], t.offs[at] = seed, p.off
			t.missing--
		}
	}
	return t.missing > 0
}

// place is where a chunk lies, and the row of it that says how long it is.
func (t *table) place(id chunker.ID) (seed int32, off int64, row int, ok bool) {
	at, ok := t.find(id)
	if !ok {
		return 0, 0, 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seeds[at], t.offs[at], int(t.rows[at]), t.seeds[at] >= 0
}
