package image

import (
	"hash"
	"io"
	"sync"
)

// CopySum copies r to w, up to its end, and digests what it copies. The two go
// on at the same time: a block is digested while it is
// written and the next one is read. With a nil sum nothing is digested.
func CopySum(w io.Writer, r io.Reader, sum hash.Hash) (written int64, err error) {
	var summing sync.WaitGroup
	defer summing.Wait()
	block, next := make([]byte, 512<<10), make([]byte, 512<<10)
	for {
		n, readErr := r.Read(block)
		summing.Wait() // next is free
		b := block[:n]
		if sum != nil {
			summing.Go(func() { sum.Write(b) })
		}
		m, err := w.Write(b)
		written += int64(m)
		switch {
		case err != nil:
			return written, err
		case readErr == io.EOF:
			return written, nil
		case readErr != nil:
			return written, readErr
		}
		block, next = next, block
	}
}
