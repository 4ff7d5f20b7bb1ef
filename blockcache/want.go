package blockcache

import (
	"context"

	"caravel/index"
)

const (
	// rowsPerHint is how many chunks one call of Want looks at. Those in memory
	// and those of zeros take no room, so room alone would not bound the call.
	rowsPerHint = 1 << 14

	// seeksAtOnce is how many calls of Want may wait for rows in the background.
	seeksAtOnce = 64
)

// A Range is a part of an image, in bytes.
type Range struct{ Off, Len int64 }

// Want is a hint: the chunks of these ranges will be read soon. They are
// fetched in the background, in the view's class and in the order given, as
// far as the memory has room for them; the rest is forgotten. It does not
// wait, and tells of no error. Rows that are on their way are waited for in the
// background, too.
func (v *View) Want(ranges ...Range) {
	img := v.img
	if !img.enter() {
		return
	}
	defer img.busy.Done()
	rows := rowsPerHint
	for i, r := range ranges {
		r = img.clip(r)
		if r.Len == 0 {
			continue
		}
		if !img.table.Ready(r.Off, r.Len) {
			v.wantLater(append([]Range(nil), ranges[i:]...), rows)
			return
		}
		if rows = v.want(r, rows); rows == 0 {
			return
		}
	}
}

// wantLater goes on with Want once the rows are here.
func (v *View) wantLater(ranges []Range, rows int) {
	img := v.img
	if img.seeking.Add(1) > seeksAtOnce {
		img.seeking.Add(-1)
		return
	}
	img.busy.Go(func() {
		defer img.seeking.Add(-1)
		for _, r := range ranges {
			if r = img.clip(r); r.Len == 0 {
				continue
			}
			if rows = v.want(r, rows); rows == 0 {
				return
			}
		}
	})
}

// want hints at the chunks of a range. It returns how many rows may still be
// looked at: none if there is no room for more.
func (v *View) want(r Range, rows int) int {
	img := v.img
	row, err := img.table.Seek(img.life, r.Off)
	for off := r.Off; err == nil && off < r.Off+r.Len; row++ {
		var c index.Chunk
		if c, err = img.row(img.life, row, off); err != nil {
			break
		}
		if rows--; rows < 0 || !v.hint(row, c) {
			return 0
		}
		off = c.End()
	}
	if err != nil && img.life.Err() == nil {
		img.log.Debug("hint dropped", "class", v.class.String(), "offset", r.Off, "err", err)
	}
	return rows
}

// hint fetches a chunk in the background unless it is here or on its way. It
// reports false if there is no room for more.
func (v *View) hint(row int, c index.Chunk) bool {
	img := v.img
	if img.zeros.has(c) || img.filed(row, c) == inFile {
		return true
	}
	start, full := img.mem.hint(img.key(c), c.Size)
	if start {
		img.busy.Go(func() { _, _ = v.bring(img.life, row, c) })
	}
	return !full
}

// bring fetches a chunk into the room that a hint has in memory, unless a file
// has it. It gives that room back if it fails.
func (v *View) bring(ctx context.Context, row int, c index.Chunk) (fetched bool, err error) {
	img, k := v.img, v.img.key(c)
	if img.recall(row, c) {
		img.mem.dropHint(k)
		return false, nil
	}
	got, plain, err := img.get(ctx, c, v.class)
	if err != nil {
		img.mem.dropHint(k)
		if ctx.Err() == nil {
			img.log.Debug("hint dropped", "class", v.class.String(), "offset", c.Start, "chunk", c.ID.String(), "err", err)
		}
		return false, err
	}
	got.Retain()
	img.mem.putHint(k, got, plain, v.class)
	img.offer(row, c, got, plain)
	got.Release()
	return true, nil
}

// State is what is known of a chunk.
type State uint8

// The states of a chunk.
const (
	Absent   State = iota
	Resident       // in memory or in a file, or known to be zeros
	Lost           // brought by a hint, and evicted before anybody read it
)

// State tells where the chunk that holds the byte at off is, and where that
// chunk ends. Behind the end of the image all is Absent; so is what lies in a
// row that is still on its way, and the end is that of the byte.
func (v *View) State(off int64) (s State, end int64) {
	img := v.img
	if off < 0 || off >= img.size {
		return Absent, img.size
	}
	if !img.table.Ready(off, 1) {
		return Absent, off + 1
	}
	ctx := context.Background() // nothing waits
	row, err := img.table.Seek(ctx, off)
	if err != nil {
		return Absent, off + 1
	}
	c, err := img.row(ctx, row, off)
	switch {
	case err != nil:
		return Absent, off + 1
	case img.zeros.has(c) || img.filed(row, c) == inFile:
		return Resident, c.End()
	}
	return img.mem.state(img.key(c)), c.End()
}
