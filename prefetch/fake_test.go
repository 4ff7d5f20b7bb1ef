package prefetch_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

const chunk = 64 << 10

// A fakeImage notes reads and hints. All of it is there at once, unless state
// says otherwise.
type fakeImage struct {
	size  int64
	state func(off int64) blockcache.State

	mu    sync.Mutex // guards what follows
	hints []blockcache.Range
}

func (f *fakeImage) Size() int64 { return f.size }

func (f *fakeImage) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if n := f.size - off; n < int64(len(p)) {
		return int(n), io.EOF
	}
	return len(p), nil
}

func (f *fakeImage) Want(ranges ...blockcache.Range) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hints = append(f.hints, ranges...)
}

func (f *fakeImage) State(off int64) (blockcache.State, int64) {
	end := off/chunk*chunk + chunk
	if f.state == nil {
		return blockcache.Resident, end
	}
	return f.state(off), end
}

// asked is how many bytes the hints are for.
func (f *fakeImage) asked() (n int64) {
	for _, h := range f.hints {
		n += h.Len
	}
	return n
}

// covered reports whether all of a range was hinted at.
func (f *fakeImage) covered(off, end int64) bool {
	for off < end {
		next := off
		for _, h := range f.hints {
			if h.Off <= off {
				next = max(next, h.Off+h.Len)
			}
		}
		if next == off {
			return false
		}
		off = next
	}
	return true
}

// A slowStore has the chunks of an image; each answer takes a while.
type slowStore struct {
	delay time.Duration
	plain map[chunker.ID][]byte

	mu    sync.Mutex // guards what follows
	fail  func(store.Want) error
	gets  map[chunker.ID]int
	order []chunker.ID // as they were asked for
	now   int
	most  int // requests at once
}

func (s *slowStore) Get(ctx context.Context, w store.Want) (*store.Chunk, error) {
	s.mu.Lock()
	s.gets[w.ID]++
	s.order = append(s.order, w.ID)
	s.now++
	s.most = max(s.most, s.now)
	fail := s.fail
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fail != nil {
		if err := fail(w); err != nil {
			return nil, err
		}
	}
	return store.NewChunk(w.ID, w.Digest, s.plain[w.ID], nil), nil
}

func (s *slowStore) Has(context.Context, store.Want) (bool, error) { return true, nil }

func (s *slowStore) asks() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.gets {
		n += k
	}
	return n
}

// image makes n chunks of noise and a store that has them.
func image(t testing.TB, n int) (*index.Index, *slowStore) {
	t.Helper()
	data := make([]byte, n*chunk)
	rng := rand.NewChaCha8([32]byte{9})
	_, _ = rng.Read(data)
	s := &slowStore{delay: 20 * time.Millisecond, plain: make(map[chunker.ID][]byte), gets: make(map[chunker.ID]int)}
	b := index.NewBuilder(feature.Blob(chunker.SHA256), chunker.Params{Min: chunk, Avg: chunk, Max: chunk})
	for ; len(data) > 0; data = data[chunk:] {
		id := chunker.SHA256.Sum(data[:chunk])
		s.plain[id] = data[:chunk:chunk]
		if err := b.Append(id, chunk); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index(), s
}
