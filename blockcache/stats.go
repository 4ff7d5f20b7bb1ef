package blockcache

import (
	"sync/atomic"
	"time"

	"caravel/store"
)

// Stats counts what readers of an image got. A read counts once in Memory,
// Zeros, File or Misses for each chunk that it touches.
type Stats struct {
	Memory int64 // chunks that were in memory
	Zeros  int64 // chunks known to be zeros
	File   int64 // chunks that were in a materialised file
	Misses int64 // chunks that were asked of the store, or of a hint under way

	Waits  int64         // times that a read had to wait, for rows or for chunks
	Waited time.Duration // what these waited together
	Bytes  int64         // given to readers
}

// Hits is the number of chunks for which the store was not asked.
func (s Stats) Hits() int64 { return s.Memory + s.Zeros + s.File }

// Add adds what others got.
func (s *Stats) Add(o Stats) {
	s.Memory += o.Memory
	s.Zeros += o.Zeros
	s.File += o.File
	s.Misses += o.Misses
	s.Waits += o.Waits
	s.Waited += o.Waited
	s.Bytes += o.Bytes
}

// counts are the Stats of a class while they grow.
type counts struct {
	memory, zeros, file, misses, waits, waited, bytes atomic.Int64

	_ [8]byte // a cache line for each class
}

// Stats is what all readers of the image got so far.
func (img *Image) Stats() (s Stats) {
	for class := range img.counts {
		s.Add(img.StatsOf(store.Class(class)))
	}
	return s
}

// StatsOf is what the readers of one class got so far.
func (img *Image) StatsOf(class store.Class) Stats {
	n := &img.counts[class]
	return Stats{
		Memory: n.memory.Load(),
		Zeros:  n.zeros.Load(),
		File:   n.file.Load(),
		Misses: n.misses.Load(),
		Waits:  n.waits.Load(),
		Waited: time.Duration(n.waited.Load()),
		Bytes:  n.bytes.Load(),
	}
}

// wait counts a read that waited since a time.
func (n *counts) wait(since time.Time) {
	n.waits.Add(1)
	n.waited.Add(int64(time.Since(since)))
}
