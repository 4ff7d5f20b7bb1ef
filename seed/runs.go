package seed

import (
	"os"
)

// Runs calls f for parts of the n bytes at off of the image that lie in files of seeds, as far
// as that is known, in order: the size bytes at start of the image are those at at of the
// file, which may be used until f returns. What f is told is a hint (see [Set]), and longer
// than a chunk where the next one lies behind it. It ends when f returns false.
func (s *Set) Runs(off, n int64, f func(file *os.File, at, start, size int64) bool) {
	var of *Seed
	var lies, start, end int64 // of the run that is being put together: in the seed, in the image
	more := true
	give := func() {
		if of == nil || start == end || !more {
			return
		}
		// Where the bytes lie in no file, or the file is there no more, f is not told.
		_ = of.Use(lies, end-start, func(file *os.File, at int64) error {
			more = f(file, at, start, end-start)
			return nil
		})
	}
	first, last := s.x.Range(off, n)
	for i := first; i < last && more; i++ {
		c := s.x.Chunk(i)
		sd, at, ok := s.Find(c.ID)
		from, to := max(c.Start, off), min(c.End(), off+n)
		at += from - c.Start
		if ok && sd == of && at == lies+end-start {
			end = to
			continue
		}
		give()
		of = nil
		if ok {
			of, lies, start, end = sd, at, from, to
		}
	}
	give()
}
