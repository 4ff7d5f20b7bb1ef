package prefetch

import (
	"sync"
	"sync/atomic"

	"caravel/index"
)

// A Recorder takes note of the chunks of an image that are touched, for a
// [Profile]. Its methods may be called from many goroutines. It takes a bit for
// each row of the index, and four bytes for each row that was touched.
type Recorder struct {
	seen []atomic.Uint64
	rows int

	mu    sync.Mutex // guards order
	order []uint32   // rows, as they were first touched
}

// NewRecorder makes a recorder for an image of so many rows.
func NewRecorder(rows int) *Recorder {
	return &Recorder{seen: make([]atomic.Uint64, bitsFor(rows)), rows: rows}
}

// Touch notes a row. It is called for each read: the second time it costs a
// look at one bit.
func (r *Recorder) Touch(row int) {
	if row < 0 || row >= r.rows {
		return
	}
	word, bit := &r.seen[row/64], uint64(1)<<(row%64)
	if word.Load()&bit != 0 || word.Or(bit)&bit != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) < maxChunks {
		r.order = append(r.order, uint32(row))
	}
}

// Profile is what was touched so far of x, the image's index. It may be called
// at any time.
func (r *Recorder) Profile(x *index.Index) *Profile {
	r.mu.Lock()
	order := r.order[:len(r.order):len(r.order)] // what is there never changes
	r.mu.Unlock()
	p := &Profile{Index: x.Sum(), chunks: make([]index.Chunk, 0, len(order))}
	for _, row := range order {
		if int(row) < x.Len() {
			p.chunks = append(p.chunks, x.Chunk(int(row)))
		}
	}
	return p
}
