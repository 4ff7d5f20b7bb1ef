package blockcache

import (
	"caravel/index"
)

// rowsPerHint is how many chunks one call of Want looks at. Those in memory
// and those of zeros take no room, so room alone would not bound the call.
const rowsPerHint = 1 << 14

// A Range is a part of an image, in bytes.
type Range struct{ Off, Len int64 }

// Want is a hint: the chunks of these ranges will be read soon. They are
// fetched in the background, in the view's class and in the order given, as
// far as the memory has room for them; the rest is forgotten. It does not
// wait, and tells of no error.
func (v *View) Want(ranges ...Range) {
	img := v.img
	if !img.enter() {
		return
	}
	defer img.busy.Done()
	rows := rowsPerHint
	for _, r := range ranges {
		if r.Off < 0 {
			continue
		}
		first, end := img.index.Range(r.Off, r.Len)
		for row := first; row < end; row++ {
			if rows--; rows < 0 || !v.hint(row) {
				return
			}
		}
	}
}

// hint fetches a chunk in the background unless it is here or on its way. It
// reports false if there is no room for more.
func (v *View) hint(row int) bool {
	img := v.img
	c := img.index.Chunk(row)
	if img.zeros.has(c) {
		return true
	}
	start, full := img.mem.hint(img.key(c), c.Size)
	if start {
		img.busy.Go(func() { v.bring(c) })
	}
	return !full
}

// bring fetches a chunk that nobody waits for.
func (v *View) bring(c index.Chunk) {
	img, k := v.img, v.img.key(c)
	got, plain, err := img.get(img.life, c, v.class)
	if err != nil {
		img.mem.dropHint(k)
		if img.life.Err() == nil {
			img.log.Debug("hint dropped", "class", v.class.String(), "offset", c.Start, "chunk", c.ID.String(), "err", err)
		}
		return
	}
	img.mem.putHint(k, got, plain, v.class)
}

// State is what the memory knows of a chunk.
type State uint8

// The states of a chunk.
const (
	Absent   State = iota
	Resident       // in memory, or known to be zeros
	Lost           // brought by a hint, and evicted before anybody read it
)

// State tells where the chunk that holds the byte at off is, and where that
// chunk ends. Behind the end of the image all is Absent.
func (v *View) State(off int64) (s State, end int64) {
	x := v.img.index
	if off < 0 || off >= x.Size() {
		return Absent, x.Size()
	}
	c := x.Chunk(x.Find(off))
	if v.img.zeros.has(c) {
		return Resident, c.End()
	}
	return v.img.mem.state(v.img.key(c)), c.End()
}
