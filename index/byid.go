package index

import (
	"bytes"
	"cmp"
	"slices"

	"caravel/chunker"
)

// RowsByID are all rows, sorted; 4 bytes each.
func (x *Index) RowsByID() []int32 {
	rows := make([]int32, x.Len())
	for i := range rows {
		rows[i] = int32(i)
	}
	x.SortByID(rows)
	return rows
}

// SortByID puts rows in the order of their IDs, and those of equal ones in that of the image.
func (x *Index) SortByID(rows []int32) {
	slices.SortFunc(rows, func(a, b int32) int {
		left, right := x.ID(int(a)), x.ID(int(b))
		return cmp.Or(bytes.Compare(left[:], right[:]), cmp.Compare(a, b))
	})
}

// SearchByID returns where in sorted rows the first one is that has an ID, or where it would
// be.
func (x *Index) SearchByID(rows []int32, id chunker.ID) (at int, ok bool) {
	return slices.BinarySearchFunc(rows, id, func(row int32, id chunker.ID) int {
		return bytes.Compare(x.ID(int(row))[:], id[:])
	})
}
