package listing

import (
	"fmt"
	"io"
	"runtime"
	"sync"

	"caravel/chunker"
)

const (
	// blockSize is how much content a worker gets at one time: half of all
	// files are so short that each by itself would not be worth it. Longer
	// ones are digested as they are read.
	blockSize = 256 << 10

	mostEntries = 4096 // that wait for their turn
)

// Sums digests the files of a listing on all cores, and gives the entries out
// in the order in which they came. It is used by one goroutine.
type Sums[T any] struct {
	digest chunker.Digest
	out    func(entry T, digest chunker.ID) error

	queue   []summed[T] // in the order of the entries
	block   *block      // that is being filled; nil: none
	jobs    chan *block
	free    chan []byte // for blocks: those that are not in use
	working sync.WaitGroup
}

// A summed is an entry whose digest comes.
type summed[T any] struct {
	entry T
	sum   chunker.ID
	in    *block // whose sum number i it is; nil: sum is set
	i     int
}

// A block is several files.
type block struct {
	content []byte
	ends    []int // of the files, in content
	sums    []chunker.ID
	done    chan struct{} // closed when sums are set, and content is no longer in use
}

// NewSums returns Sums by d that give each entry to out. Close must be called.
func NewSums[T any](d chunker.Digest, out func(entry T, digest chunker.ID) error) *Sums[T] {
	workers := runtime.GOMAXPROCS(0)
	blocks := 2*workers + 1
	s := &Sums[T]{digest: d, out: out, jobs: make(chan *block, blocks), free: make(chan []byte, blocks)}
	for range blocks {
		s.free <- nil
	}
	for range workers {
		s.working.Go(s.work)
	}
	return s
}

func (s *Sums[T]) work() {
	for b := range s.jobs {
		b.sums = make([]chunker.ID, len(b.ends))
		files, start := make([][]byte, len(b.ends)), 0
		for i, end := range b.ends {
			files[i], start = b.content[start:end], end
		}
		s.digest.Sums(b.sums, files)
		s.free <- b.content[:0]
		close(b.done)
	}
}

// Add takes an entry without content.
func (s *Sums[T]) Add(entry T) error { return s.enqueue(summed[T]{entry: entry}) }

// File takes an entry with content: size bytes, which are read from r before it
// returns.
func (s *Sums[T]) File(entry T, r io.Reader, size int64) error {
	if size > blockSize {
		h := s.digest.New()
		if _, err := io.Copy(h, r); err != nil {
			return err
		}
		return s.enqueue(summed[T]{entry: entry, sum: chunker.ID(h.Sum(nil))})
	}
	if s.block != nil && len(s.block.content)+int(size) > blockSize {
		s.dispatch()
	}
	if s.block == nil {
		s.begin()
	}
	b := s.block
	start := len(b.content)
	b.content = b.content[:start+int(size)]
	if _, err := io.ReadFull(r, b.content[start:]); err != nil {
		b.content = b.content[:start]
		return fmt.Errorf("listing: %w", err)
	}
	b.ends = append(b.ends, len(b.content))
	return s.enqueue(summed[T]{entry: entry, in: b, i: len(b.ends) - 1})
}

// begin waits for a block that is free.
func (s *Sums[T]) begin() {
	content := <-s.free
	if content == nil {
		content = make([]byte, 0, blockSize)
	}
	s.block = &block{content: content, done: make(chan struct{})}
}

// dispatch has a worker digest the block that was filled.
func (s *Sums[T]) dispatch() {
	s.jobs <- s.block // there is room for all blocks
	s.block = nil
}

// enqueue gives out what has to make room, or is ready.
func (s *Sums[T]) enqueue(e summed[T]) error {
	s.queue = append(s.queue, e)
	for len(s.queue) > 0 && (len(s.queue) >= mostEntries || s.queue[0].ready()) {
		if err := s.first(); err != nil {
			return err
		}
	}
	return nil
}

func (e summed[T]) ready() bool {
	if e.in == nil {
		return true
	}
	select {
	case <-e.in.done:
		return true
	default:
		return false
	}
}

// first waits for the first entry's digest and gives it out.
func (s *Sums[T]) first() error {
	e := s.queue[0]
	s.queue[0] = summed[T]{} // the entry need not stay in memory
	s.queue = s.queue[1:]
	if e.in != nil {
		if e.in == s.block {
			s.dispatch()
		}
		<-e.in.done
		e.sum = e.in.sums[e.i]
	}
	return s.out(e.entry, e.sum)
}

// Flush gives out what is left.
func (s *Sums[T]) Flush() error {
	for len(s.queue) > 0 {
		if err := s.first(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the work; what was not given out is dropped.
func (s *Sums[T]) Close() {
	close(s.jobs)
	s.working.Wait()
}
