package catar

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// TailSize is the length of a table's tail in bytes.
const TailSize = itemSize

// MayBeTail reports whether b ends as a directory does. Most files do not, and
// an error costs more than that.
func MayBeTail(b []byte) bool {
	return len(b) >= TailSize && u64(b[len(b)-8:], 0) == tailMark
}

// ParseTail reads the last TailSize bytes of a directory that ends at end, and
// returns where its table and its ENTRY are.
func ParseTail(b []byte, end int64) (goodbye, entry int64, err error) {
	off := end - TailSize
	if len(b) != TailSize || off < 0 {
		return 0, 0, fmt.Errorf("catar: %d bytes of a table's tail that ends at %d", len(b), end)
	}
	back, size, mark := u64(b, 0), u64(b, 1), u64(b, 2)
	switch {
	case mark != tailMark:
		return 0, 0, refuse(off+2*8, "a table's tail is marked %#x, not %#x", mark, uint64(tailMark))
	case size < uint64(tableSize(0)) || size > uint64(end) || (size-headerSize)%itemSize != 0:
		return 0, 0, refuse(off+8, "a table of %d bytes that ends at %d", size, end)
	}
	goodbye = end - int64(size)
	if back < entrySize || back > uint64(goodbye) {
		return 0, 0, refuse(off, "a table at %d whose ENTRY is %d bytes before it", goodbye, back)
	}
	return goodbye, goodbye - int64(back), nil
}

// A Span is where a child lies: from its FILENAME to its end.
type Span struct{ Start, End int64 }

// maxEqual is how many names of a directory may have one hash. It has 64 bits
// and its key is known: a pair is found by some 2^32 tries, seventeen by more
// than 2^59. Whoever claims more wants to be searched for ever.
const maxEqual = 16

// A Table is the list of a directory's children, by the hashes of their names.
// It takes 20 bytes for each.
type Table struct {
	starts []int64  // of the children, one after the other; then where the last one ends
	hashes []uint64 // ascending
	child  []uint32 // with the hash of the same number
}

// minChild is what a child takes up at least: what desync writes of a FIFO.
const minChild = headerSize + 2

// ParseTable reads a GOODBYE record, b, that stands at goodbye and belongs to a
// directory whose content starts at body. The children must lie one after the
// other, without a gap, between the two, and the order must be a search tree's;
// that of equal hashes, of which there are a few at most, does not matter. A
// *ShortError asks for more of b.
func ParseTable(b []byte, body, goodbye int64) (*Table, error) {
	n, err := tableLen(b, body, goodbye)
	if err != nil {
		return nil, err
	}
	items := make(children, n) // sorted by hash, if the table is as it should be
	for i := range n {
		off, item := goodbye+headerSize+itemSize*int64(i), b[headerSize+itemSize*i:]
		back, size := u64(item, 0), u64(item, 1)
		if back > uint64(goodbye-body) || size < minChild || size > back {
			return nil, refuse(off, "GOODBYE: a child of %d bytes, %d before the table, in a directory of %d",
				size, back, goodbye-body)
		}
		start := goodbye - int64(back)
		items[rank(i, n)] = child{hash: u64(item, 2), start: start, end: start + int64(size)}
	}
	t := &Table{starts: make([]int64, n+1), hashes: make([]uint64, n), child: make([]uint32, n)}
	for i, c := range items {
		switch {
		case i > 0 && c.hash < items[i-1].hash:
			return nil, refuse(goodbye, "GOODBYE: the items are not in a search tree's order")
		case i >= maxEqual && c.hash == items[i-maxEqual].hash:
			return nil, refuse(goodbye, "GOODBYE: more than %d names with one hash", maxEqual)
		}
		t.hashes[i] = c.hash
	}
	return t, t.place(items, body, goodbye)
}

// tableLen checks what stands around the items, and returns how many there are.
func tableLen(b []byte, body, goodbye int64) (int, error) {
	switch {
	case body < entrySize || goodbye < body || goodbye > math.MaxInt64-tableSize(0):
		return 0, fmt.Errorf("catar: a table at %d of a directory from %d on", goodbye, body)
	case len(b) < headerSize:
		return 0, &ShortError{Need: int(tableSize(0))}
	}
	k, size, err := kindOf(b, goodbye)
	if err != nil {
		return 0, err
	}
	n := (size - uint64(tableSize(0))) / itemSize
	switch {
	case k.id != typeGoodbye:
		return 0, refuse(goodbye, "%s where a GOODBYE should be", k.name)
	case (size-headerSize)%itemSize != 0:
		return 0, refuse(goodbye, "GOODBYE of %d bytes, not %d and %d for each child", size, tableSize(0), itemSize)
	case n > uint64(goodbye-body)/minChild || n > math.MaxUint32 || size > math.MaxInt:
		return 0, refuse(goodbye, "GOODBYE of %d children in a directory of %d bytes", n, goodbye-body)
	case uint64(len(b)) < size:
		return 0, &ShortError{Need: int(size)}
	case uint64(len(b)) > size:
		return 0, refuse(goodbye, "GOODBYE of %d bytes in place of %d", size, len(b))
	}
	g, entry, err := ParseTail(b[size-TailSize:], goodbye+int64(size))
	if err == nil && (g != goodbye || entry > body-entrySize) {
		err = refuse(goodbye, "GOODBYE: a tail of a table at %d and an ENTRY at %d", g, entry)
	}
	return int(n), err
}

// place fills in where the children lie. items are sorted by hash.
func (t *Table) place(items children, body, goodbye int64) error {
	for i := range t.child {
		t.child[i] = uint32(i)
	}
	slices.SortFunc(t.child, func(a, b uint32) int { return cmp.Compare(items[a].start, items[b].start) })
	at := body
	for i, k := range t.child {
		if items[k].start != at {
			return refuse(goodbye, "GOODBYE: child %d starts at %d, not at %d", i, items[k].start, at)
		}
		t.starts[i] = at
		at = items[k].end
	}
	if at != goodbye {
		return refuse(goodbye, "GOODBYE: the children end at %d, not at %d", at, goodbye)
	}
	t.starts[len(items)] = goodbye

	// From where each child is in the order of hashes to where each hash is in
	// the order of children.
	order := make([]uint32, len(items))
	for i, k := range t.child {
		order[k] = uint32(i)
	}
	t.child = order
	return nil
}

// Len is the number of children.
func (t *Table) Len() int { return len(t.hashes) }

// Span is child i in the archive's order.
func (t *Table) Span(i int) Span { return Span{t.starts[i], t.starts[i+1]} }

// Find returns the children whose names may be name: those with its hash, in
// the archive's order, mostly one or none.
func (t *Table) Find(name string) []Span {
	equal := t.equal(name)
	if len(equal) == 0 {
		return nil
	}
	spans := make([]Span, 0, len(equal))
	for _, i := range equal {
		spans = append(spans, t.Span(int(i)))
	}
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	return spans
}

// Has reports whether Find would return s.
func (t *Table) Has(name string, s Span) bool {
	return slices.ContainsFunc(t.equal(name), func(i uint32) bool { return t.Span(int(i)) == s })
}

// equal are the numbers of the children with the hash of name, in no order.
func (t *Table) equal(name string) []uint32 {
	hash := hashName(name)
	first, _ := slices.BinarySearch(t.hashes, hash)
	last := first
	for last < len(t.hashes) && t.hashes[last] == hash {
		last++
	}
	return t.child[first:last]
}
