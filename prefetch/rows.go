package prefetch

import (
	"encoding/binary"
	"slices"

	"caravel/chunker"
	"caravel/index"
)

// Rows are the rows of x that the profile wants, in its order, each once: those
// that have the same chunk at the same offset; for the others, the first row
// that has the chunk at all.
func (p *Profile) Rows(x *index.Index) []int {
	rows := make([]int, 0, len(p.chunks)) // of each chunk
	var moved []int                       // numbers of chunks that are not in their place
	row := -1
	for i, c := range p.chunks {
		if row = rowAt(x, c, row+1); row < 0 {
			moved = append(moved, i)
		}
		rows = append(rows, row)
	}
	p.search(x, rows, moved)

	seen := make(bits, bitsFor(x.Len()))
	return slices.DeleteFunc(rows, func(row int) bool { return row < 0 || !seen.set(row) })
}

// rowAt is the row that has a chunk in its place, or -1. It may well be the one
// that is guessed: then nothing need be searched for.
func rowAt(x *index.Index, c index.Chunk, guess int) int {
	if c.Start < 0 || c.Start >= x.Size() {
		return -1
	}
	if guess == x.Len() || x.Chunk(guess).Start != c.Start {
		guess = x.Find(c.Start)
	}
	if x.Chunk(guess) != c {
		return -1
	}
	return guess
}

// search looks for chunks, by their numbers, wherever in x they are, and notes
// their rows. The index may have 16 million rows and the profile some hundred
// chunks, so x is gone through once, and most of its rows are told from what is
// looked for by one look at a table that fits into a near cache.
func (p *Profile) search(x *index.Index, rows []int, moved []int) {
	wanted := make(map[chunker.ID]int, len(moved))
	for _, i := range slices.Backward(moved) {
		wanted[p.chunks[i].ID] = i // the first one, if there are several
	}
	marks := 64
	for marks < 16*len(wanted) {
		marks *= 2
	}
	table := make(bits, bitsFor(marks))
	mark := func(id chunker.ID) int { return int(binary.LittleEndian.Uint64(id[:]) % uint64(marks)) }
	for id := range wanted {
		table.set(mark(id))
	}
	for row := 0; row < x.Len() && len(wanted) > 0; row++ {
		id := x.Chunk(row).ID
		if !table.has(mark(id)) {
			continue
		}
		if i, ok := wanted[id]; ok {
			rows[i] = row
			delete(wanted, id)
		}
	}
}

// bits are many yes or no.
type bits []uint64

// bitsFor is the length of bits for n answers.
func bitsFor(n int) int { return (n + 63) / 64 }

func (b bits) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }

// set makes bit i a yes, and reports whether it was none.
func (b bits) set(i int) bool {
	was := b.has(i)
	b[i/64] |= 1 << (i % 64)
	return !was
}
