package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"caravel/chunker"
	"caravel/index"
)

// CompareOptions tunes Compare. The zero value is a good choice.
type CompareOptions struct {
	Workers  int           // parts that are read at one time; 0: one a core
	Progress *atomic.Int64 // counts bytes compared; nil: nobody looks
}

// Compared is what a Compare has found.
type Compared struct {
	Same  int64       // chunks
	Other int64       // chunks that hold something else
	First index.Chunk // of these
}

// Compare finds out whether a file or device holds an image, at its beginning, by the
// digests of its chunks: nothing is fetched. name is the file's in errors. A difference is
// no error.
func Compare(ctx context.Context, r io.ReaderAt, name string, x *index.Index, opt CompareOptions) (Compared, error) {
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	c := &comparing{r: r, name: name, x: x, progress: opt.Progress, zero: zeroID(x.Digest(), x.Params.Max)}
	g, each := errgroup.WithContext(ctx)
	for range cmp.Or(opt.Workers, runtime.GOMAXPROCS(0)) {
		g.Go(func() error { return c.work(each) })
	}
	err := g.Wait()
	return c.got, cmp.Or(context.Cause(ctx), err)
}

// comparing is one Compare.
type comparing struct {
	r        io.ReaderAt
	name     string
	x        *index.Index
	progress *atomic.Int64
	zero     chunker.ID

	mu   sync.Mutex // guards what follows
	next int        // row of x
	got  Compared
}

// partBytes is how much is read at once, if no chunk is longer.
const partBytes = 2 << 20

// take is the rows that one worker compares next; none are left if first is last.
func (c *comparing) take() (first, last int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, last = c.next, c.next
	for size := 0; last < c.x.Len() && last-first < chunker.SumsAtOnce; last++ {
		if size += c.x.Chunk(last).Size; size > partBytes && last > first {
			break
		}
	}
	c.next = last
	return first, last
}

func (c *comparing) work(ctx context.Context) error {
	var content []byte
	var plains [][]byte
	var ids []chunker.ID
	for {
		first, last := c.take()
		if first == last {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start, end := c.x.Chunk(first).Start, c.x.Chunk(last-1).End()
		if n := int(end - start); cap(content) < n {
			content = make([]byte, max(n, partBytes))
		}
		content = content[:end-start]
		if n, err := c.r.ReadAt(content, start); n < len(content) {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("image: %s: ends at %d, the image at %d: %w", c.name, start+int64(n), c.x.Size(), io.ErrUnexpectedEOF)
			}
			return fmt.Errorf("image: %w", err)
		}
		plains, ids = plains[:0], ids[:0]
		for row := first; row < last; row++ {
			k := c.x.Chunk(row)
			plains = append(plains, content[k.Start-start:k.End()-start])
			ids = append(ids, c.zero)
		}
		c.sum(ids, plains)
		c.note(first, ids)
		c.progress.Add(end - start)
	}
}

// sum digests chunks, all of them if one is not the longest hole.
func (c *comparing) sum(ids []chunker.ID, plains [][]byte) {
	for _, p := range plains {
		if len(p) != c.x.Params.Max || !isZero(p) {
			c.x.Digest().Sums(ids, plains)
			return
		}
	}
}

// note compares the digests with those of the rows from first on.
func (c *comparing) note(first int, ids []chunker.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		k := c.x.Chunk(first + i)
		if k.ID == id {
			c.got.Same++
			continue
		}
		if c.got.Other == 0 || k.Start < c.got.First.Start {
			c.got.First = k
		}
		c.got.Other++
	}
}
