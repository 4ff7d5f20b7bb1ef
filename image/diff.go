package image

import "caravel/index"

// SameRange reports whether the n bytes of a at offA and those of b at offB are cut into
// the same chunks in the same way: then they are the same. Otherwise they may still be.
func SameRange(a *index.Index, offA int64, b *index.Index, offB, n int64) bool {
	if n > a.Size()-offA || n > b.Size()-offB || a.Digest() != b.Digest() {
		return false
	}
	rowA, rowB := a.Find(offA), b.Find(offB)
	for n > 0 {
		x, y := a.Chunk(rowA), b.Chunk(rowB)
		if x.ID != y.ID || offA-x.Start != offB-y.Start {
			return false
		}
		step := x.End() - offA
		offA, offB, n = offA+step, offB+step, n-step
		rowA, rowB = rowA+1, rowB+1
	}
	return true
}

// OtherRange reports whether the n bytes of a at offA and those of b at offB differ for
// certain: somewhere in them both have a chunk in the same place that is not the same.
func OtherRange(a *index.Index, offA int64, b *index.Index, offB, n int64) bool {
	for i, j := a.Find(offA), b.Find(offB); i < a.Len() && j < b.Len(); {
		x, y := a.Chunk(i), b.Chunk(j)
		startX, startY := x.Start-offA, y.Start-offB
		switch {
		case startX < 0, startX < startY:
			i++
		case startY < 0, startY < startX:
			j++
		case startX+int64(x.Size) > n || startY+int64(y.Size) > n:
			return false
		case x.Size == y.Size && x.ID != y.ID && a.Digest() == b.Digest():
			return true
		default:
			i, j = i+1, j+1
		}
	}
	return false
}

// A Change is a part of an image that is not known to be what another one has there.
type Change struct {
	Start, Size int64
	Known       bool // the other image has these chunks elsewhere
}

// Changes are the parts of b that a has not in the same place, in their order; those
// that lie one behind the other and are of one kind are one. known says of the chunks of
// b, each once, whether a has them.
func Changes(a *index.Index, b *Unique, known []bool) (all []Change) {
	for row, place := range b.Place {
		c := b.Index.Chunk(row)
		if SameRange(a, c.Start, b.Index, c.Start, int64(c.Size)) {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Start+all[n-1].Size == c.Start && all[n-1].Known == known[place] {
			all[n-1].Size += int64(c.Size)
			continue
		}
		all = append(all, Change{c.Start, int64(c.Size), known[place]})
	}
	return all
}
