package image

import "caravel/index"

// Unique are the chunks of an index, each once: 16 bytes a row beside the index.
type Unique struct {
	Index *index.Index
	Rows  []int // the first of each chunk, in the image's order
	Place []int // for each row of Index, where in Rows its chunk is
}

// UniqueOf finds them.
func UniqueOf(x *index.Index) *Unique {
	u := &Unique{Index: x, Place: make([]int, x.Len())}
	first := 0
	for i, at := range x.RowsByID() {
		row := int(at)
		if i == 0 || x.Chunk(row).ID != x.Chunk(first).ID {
			first = row
		}
		u.Place[row] = first // a row, until the next loop
	}
	for row, first := range u.Place {
		if first == row {
			u.Place[row] = len(u.Rows)
			u.Rows = append(u.Rows, row)
		} else {
			u.Place[row] = u.Place[first]
		}
	}
	return u
}

// Chunk is the one at a place in Rows.
func (u *Unique) Chunk(place int) index.Chunk { return u.Index.Chunk(u.Rows[place]) }

// A Tally counts chunks, each once.
type Tally struct {
	Chunks int64
	Bytes  int64 // plain
}

// Tally counts the chunks at the places that counts says yes to.
func (u *Unique) Tally(counts func(place int) bool) (t Tally) {
	for place := range u.Rows {
		if counts(place) {
			t.Chunks++
			t.Bytes += int64(u.Chunk(place).Size)
		}
	}
	return t
}

// Seeded says of each of the chunks whether one of the seeds has it.
func (u *Unique) Seeded(seeds ...*index.Index) []bool {
	var all Roots
	for _, x := range seeds {
		all.Add(x)
	}
	all.sort()
	there := make([]bool, len(u.Rows))
	for place := range there {
		there[place] = all.has(u.Chunk(place).ID)
	}
	return there
}
