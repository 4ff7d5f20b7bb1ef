// Package extents tells where a file has data and where holes.
package extents

import "sort"

// An Extent is the bytes [Start, End) of a file.
type Extent struct{ Start, End int64 }

// A List is extents in ascending order, none of which touches another.
type List []Extent

// Touches reports whether one of them has a byte of [start, end).
func (l List) Touches(start, end int64) bool {
	i := l.Behind(start)
	return i < len(l) && l[i].Start < end
}

// Behind is the first of them that ends behind off; len(l): none does.
func (l List) Behind(off int64) int {
	return sort.Search(len(l), func(i int) bool { return l[i].End > off })
}

// Bytes is how many they have.
func (l List) Bytes() (n int64) {
	for _, e := range l {
		n += e.End - e.Start
	}
	return n
}

// Union makes a List of extents in any order.
func Union(all []Extent) List {
	sort.Slice(all, func(i, j int) bool { return all[i].Start < all[j].Start })
	var l List
	for _, e := range all {
		switch n := len(l); {
		case e.End <= e.Start:
		case n > 0 && e.Start <= l[n-1].End:
			l[n-1].End = max(l[n-1].End, e.End)
		default:
			l = append(l, e)
		}
	}
	return l
}

// Minus is what is left of l without what is in other.
func (l List) Minus(other List) List {
	var left List
	for _, e := range l {
		for i := other.Behind(e.Start); i < len(other) && other[i].Start < e.End; i++ {
			if e.Start < other[i].Start {
				left = append(left, Extent{e.Start, other[i].Start})
			}
			e.Start = other[i].End
		}
		if e.Start < e.End {
			left = append(left, e)
		}
	}
	return left
}
