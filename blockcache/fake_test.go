package blockcache_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// A fakeStore has chunks in maps. It counts what it is asked for and how many
// bytes of its chunks are alive, and spoils every chunk after its release.
type fakeStore struct {
	delay   time.Duration                           // of every answer
	gate    chan struct{}                           // unless nil, an answer takes one token
	unproof bool                                    // give chunks that are not verified
	answer  func(store.Want) *store.Chunk           // unless nil and its result nil, what Get returns
	asked   func(ctx context.Context, w store.Want) // unless nil, called first

	mu    sync.Mutex // guards what follows
	plain map[chunker.ID][]byte
	fail  map[chunker.ID]error
	gets  map[chunker.ID]int
	class map[chunker.ID]store.Class // of the last Get
	live  int64                      // bytes not released
	peak  int64
}

func (s *fakeStore) Get(ctx context.Context, w store.Want) (*store.Chunk, error) {
	if s.asked != nil {
		s.asked(ctx, w)
	}
	s.mu.Lock()
	s.gets[w.ID]++
	s.class[w.ID] = w.Class
	s.mu.Unlock()
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	if s.answer != nil {
		if c := s.answer(w); c != nil {
			return c, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail[w.ID]; err != nil {
		return nil, err
	}
	plain, ok := s.plain[w.ID]
	if !ok {
		return nil, &store.MissingError{ID: w.ID, Where: "fake"}
	}
	return s.chunk(w, append([]byte(nil), plain...)), nil
}

func (s *fakeStore) wait(ctx context.Context) error {
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// chunk makes an answer that is counted until its release. The caller holds mu.
func (s *fakeStore) chunk(w store.Want, b []byte) *store.Chunk {
	s.live += int64(len(b))
	s.peak = max(s.peak, s.live)
	free := func() {
		for i := range b {
			b[i] = 0xdb
		}
		s.mu.Lock()
		s.live -= int64(len(b))
		s.mu.Unlock()
	}
	if s.unproof {
		return store.NewStored(w, "fake/"+w.ID.String(), store.None, b, free)
	}
	return store.NewChunk(w.ID, w.Digest, b, free)
}

func (s *fakeStore) Has(_ context.Context, w store.Want) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.plain[w.ID]
	return ok, nil
}

func (s *fakeStore) asks() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.gets {
		n += k
	}
	return n
}

func (s *fakeStore) setFail(id chunker.ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[id] = err
}

// image cuts data at the sizes given, the last one repeated, and returns its
// index with a store of its chunks.
func image(t testing.TB, data []byte, sizes ...int) (*index.Index, *fakeStore) {
	t.Helper()
	s := &fakeStore{
		plain: make(map[chunker.ID][]byte),
		fail:  make(map[chunker.ID]error),
		gets:  make(map[chunker.ID]int),
		class: make(map[chunker.ID]store.Class),
	}
	longest := 0
	for _, n := range sizes {
		longest = max(longest, n)
	}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: longest, Max: longest})
	for i := 0; len(data) > 0; i++ {
		n := min(sizes[min(i, len(sizes)-1)], len(data))
		id := chunker.SHA512_256.Sum(data[:n])
		s.plain[id] = data[:n]
		if err := b.Append(id, n); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	return b.Index(), s
}

// noise is n bytes that are the same in every run.
func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{7})
	_, _ = rng.Read(b)
	return b
}

// other is the index of another image of 9000 bytes.
func other(t testing.TB) *index.Index {
	t.Helper()
	x, _ := image(t, noise(9001)[1:], 1000)
	return x
}
