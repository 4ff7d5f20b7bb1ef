package overlay

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// presence is the blocks that are present: both maps of the file in one, read
// page by page when they are needed.
type presence struct {
	file   medium
	header header
	pages  []atomic.Pointer[page] // nil: not yet read

	mu    sync.Mutex       // guards dirty
	dirty map[int]struct{} // pages that the durable map is to get
}

// A page has the bits of pageBlocks blocks. A bit that is set stays so, and is
// in the volatile or the durable map of the file before it is seen here.
type page struct {
	words [pageBlocks / 64]atomic.Uint64

	mu    sync.Mutex // guards what follows, and the way of bits into the volatile map
	dirty bool       // there are bits that the durable map has not
	room  bool       // both maps have room on the disk for it
}

// blank stands for all pages that have no bit. It is never changed.
var blank page

func newPresence(file medium, h header) *presence {
	return &presence{file: file, header: h, pages: make([]atomic.Pointer[page], h.pages()), dirty: make(map[int]struct{})}
}

func (s *presence) durableAt(i int) int64  { return durableAt + int64(i)*pageSize }
func (s *presence) volatileAt(i int) int64 { return s.header.volatileAt() + int64(i)*pageSize }

// page returns page i, from the file if it is asked for the first time.
func (s *presence) page(i int) (*page, error) {
	if pg := s.pages[i].Load(); pg != nil {
		return pg, nil
	}
	if n := s.empty(i); n > 0 {
		for j := range s.pages[i : i+n] {
			s.pages[i+j].CompareAndSwap(nil, &blank)
		}
		return s.pages[i].Load(), nil
	}
	var durable, volatile [pageSize]byte
	if err := readFull(s.file, durable[:], s.durableAt(i)); err != nil {
		return nil, err
	}
	if err := readFull(s.file, volatile[:], s.volatileAt(i)); err != nil {
		return nil, err
	}
	pg := &blank
	if durable != [pageSize]byte{} || volatile != [pageSize]byte{} {
		pg = new(page)
		for w := range pg.words {
			d, v := binary.LittleEndian.Uint64(durable[8*w:]), binary.LittleEndian.Uint64(volatile[8*w:])
			pg.words[w].Store(d | v)
			pg.dirty = pg.dirty || v&^d != 0
		}
	}
	// Whoever was faster may have set bits already.
	s.pages[i].CompareAndSwap(nil, pg)
	return s.pages[i].Load(), nil
}

// empty is how many pages from i on are holes in both maps. To read them would
// fill the kernel's memory with zeros.
func (s *presence) empty(i int) int {
	n := int64(len(s.pages)-i) * pageSize
	for _, at := range []int64{s.durableAt(i), s.volatileAt(i)} {
		hole := int64(0)
		for off, size := range s.file.holes(at, n) {
			if off == at {
				hole = size
			}
			break
		}
		n = min(n, hole)
	}
	return int(n / pageSize)
}

// run tells whether block first is present, and where the run of blocks of its
// kind ends, at end at the latest.
func (s *presence) run(first, end int64) (present bool, stop int64, err error) {
	for at := first; at < end; {
		pg, err := s.page(int(at / pageBlocks))
		if err != nil {
			return false, first, err
		}
		w := pg.words[at%pageBlocks/64].Load() // once: it may change
		if at == first {
			present = w>>(at%64)&1 != 0
		}
		if pg == &blank && !present {
			at = (at/pageBlocks + 1) * pageBlocks
			continue
		}
		if present {
			w = ^w
		}
		if w >>= at % 64; w != 0 {
			return present, min(at+int64(bits.TrailingZeros64(w)), end), nil
		}
		at = (at/64 + 1) * 64
	}
	return present, end, nil
}

// mark makes the blocks from first to end present. Their data is in the file.
func (s *presence) mark(first, end int64) error {
	for first < end {
		stop := min((first/pageBlocks+1)*pageBlocks, end)
		if err := s.markIn(int(first/pageBlocks), first%pageBlocks, (stop-1)%pageBlocks+1); err != nil {
			return err
		}
		first = stop
	}
	return nil
}

// markIn sets the bits from first to end of page i.
func (s *presence) markIn(i int, first, end int64) error {
	pg, err := s.page(i)
	if err != nil {
		return err
	}
	if pg == &blank {
		s.pages[i].CompareAndSwap(&blank, new(page))
		pg = s.pages[i].Load()
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if !pg.room {
		for _, at := range []int64{s.durableAt(i), s.volatileAt(i)} {
			if err := s.file.reserve(at, pageSize); err != nil {
				return err
			}
		}
		pg.room = true
	}
	from, to := first/64, (end+63)/64
	raw, changed := make([]byte, 0, 8*(to-from)), false
	for w := from; w < to; w++ {
		was := pg.words[w].Load()
		now := was | mask(first-64*w, end-64*w)
		raw, changed = binary.LittleEndian.AppendUint64(raw, now), changed || now != was
	}
	if !changed {
		return nil
	}
	if _, err := s.file.WriteAt(raw, s.volatileAt(i)+8*from); err != nil {
		return err
	}
	// Before the bits are seen: who writes to a block that is present, and
	// flushes then, relies on this.
	if !pg.dirty {
		pg.dirty = true
		s.soil(i)
	}
	for w := from; w < to; w++ {
		pg.words[w].Store(binary.LittleEndian.Uint64(raw[8*(w-from):]))
	}
	return nil
}

// mask has the bits from first to end; what is outside of a word is left out.
func mask(first, end int64) uint64 {
	return ^uint64(0) << max(first, 0) & (^uint64(0) >> (64 - min(end, 64)))
}

// soil notes that the durable map is to get page i.
func (s *presence) soil(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[i] = struct{}{}
}

// soiled returns the pages noted, in order, and forgets them.
func (s *presence) soiled() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Sorted(maps.Keys(s.dirty))
	clear(s.dirty)
	return list
}

// walk notes all pages of which the volatile map has more than the durable one:
// another process has left them.
func (s *presence) walk() error {
	note := func(from, to int64) error { // by offsets in the map
		for i := int(from / pageSize); int64(i)*pageSize < to; i++ {
			pg, err := s.page(i)
			if err != nil {
				return err
			}
			pg.mu.Lock()
			if pg.dirty {
				s.soil(i)
			}
			pg.mu.Unlock()
		}
		return nil
	}
	at, end := int64(0), s.header.mapSize()
	for off, n := range s.file.holes(s.header.volatileAt(), end) {
		off -= s.header.volatileAt()
		if err := note(at, off); err != nil {
			return err
		}
		at = off + n
	}
	return note(at, end)
}

// take is the bits of page i for the durable map. What is set from now on makes
// the page dirty again.
func (s *presence) take(i int) ([]byte, error) {
	pg, err := s.page(i)
	if err != nil {
		return nil, err
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.dirty = false
	raw := make([]byte, 0, pageSize)
	for w := range pg.words {
		raw = binary.LittleEndian.AppendUint64(raw, pg.words[w].Load())
	}
	return raw, nil
}

// giveBack notes that the durable map has not got some pages.
func (s *presence) giveBack(list []int) {
	for _, i := range list {
		if pg := s.pages[i].Load(); pg != nil && pg != &blank {
			pg.mu.Lock()
			pg.dirty = true
			pg.mu.Unlock()
		}
		s.soil(i)
	}
}
