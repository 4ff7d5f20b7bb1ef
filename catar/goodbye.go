package catar

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// A GOODBYE ends a directory: an item of three numbers for each child, arranged
// as a search tree by the hashes of the names, and a tail
// (docs/formats.md, section 4.8).

// tableSize is the length of the GOODBYE of n children in bytes.
func tableSize(n int) int64 { return headerSize + itemSize*int64(n) + itemSize }

// A child is what an item says of one.
type child struct {
	hash       uint64
	start, end int64 // from its FILENAME to its end, in the archive
}

// children are those of a directory, in the archive's order until they are
// sorted.
type children []child

func (c *children) add(name string, start int64) {
	*c = append(*c, child{hash: hashName(name), start: start})
}

// endAt says where the last child ends.
func (c children) endAt(end int64) {
	if len(c) > 0 {
		c[len(c)-1].end = end
	}
}

func (c children) sort() {
	slices.SortFunc(c, func(a, b child) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.start, b.start))
	})
}

// ties are the sorted children with the hash of number i: those from first on,
// up to last.
func (c children) ties(i int) (first, last int) {
	first, last = i, i
	for first > 0 && c[first-1].hash == c[i].hash {
		first--
	}
	for last+1 < len(c) && c[last+1].hash == c[i].hash {
		last++
	}
	return first, last
}

// A directory is one whose table is still to come.
type directory struct {
	entry    int64               // offset of its ENTRY
	count    int                 // of the children
	children children            // all of them, but in a bare archive
	last     string              // name of the last child
	names    map[string]struct{} // of all of them, where they need not be sorted
}

// directories are open: those from the root down to one of them.
type directories []directory

func (d directories) top() *directory { return &d[len(d)-1] }

// keep is up to how many children the memory for a directory is kept for
// another one at the same level.
const keep = 4096

func (d *directories) push(entry int64) {
	var spare children
	if level := len(*d); level < cap(*d) {
		spare = (*d)[:level+1][level].children
	}
	if cap(spare) > keep {
		spare = nil
	}
	*d = append(*d, directory{entry: entry, children: spare[:0]})
}

func (d *directories) pop() {
	d.top().names = nil
	*d = (*d)[:len(*d)-1]
}

// rank is the place in sorted order of item i of a table of n. The table is a
// complete binary tree, its root at 0 and the children of i at 2i+1 and 2i+2,
// the last level filled from the left. In a tree with the last level full the
// leaves would have the even places; those that are missing are taken off.
func rank(i, n int) int {
	levels, level := bits.Len(uint(n)), bits.Len(uint(i+1))-1
	below := 1 << (levels - level - 1)
	full := 2*below*(i+1-1<<level) + below - 1
	leaves := n - (1<<(levels-1) - 1)
	return full - max(0, (full+1)/2-leaves)
}

// numbers are an item's three in a table that stands at goodbye.
func (c child) numbers(goodbye int64) [3]uint64 {
	return [3]uint64{uint64(goodbye - c.start), uint64(c.end - c.start), c.hash}
}

// tail is the last three numbers of a table of n items that stands at goodbye
// and belongs to the ENTRY at entry.
func tail(goodbye, entry int64, n int) [3]uint64 {
	return [3]uint64{uint64(goodbye - entry), uint64(tableSize(n)), tailMark}
}

// A tableCheck compares items with what they have to be.
type tableCheck struct {
	children children // sorted
	goodbye  int64
	desync   bool // equal hashes may come in reverse, once for all
	reverse  bool
	decided  bool
}

func (t *tableCheck) check(i int, got [3]uint64) error {
	n := len(t.children)
	k := rank(i, n)
	want := t.children[k].numbers(t.goodbye)
	if t.desync {
		want = t.either(k, got)
	}
	if got != want {
		return fmt.Errorf("GOODBYE: item %d of %d is %#x, not %#x", i, n, got, want)
	}
	return nil
}

// either is what child k has to be where an order of equal hashes is not
// settled before the first one of them comes: desync puts the last one first.
func (t *tableCheck) either(k int, got [3]uint64) [3]uint64 {
	first, last := t.children.ties(k)
	forth, back := t.children[k].numbers(t.goodbye), t.children[first+last-k].numbers(t.goodbye)
	if forth != back && !t.decided {
		t.decided, t.reverse = true, got == back
	}
	if t.reverse {
		return back
	}
	return forth
}
