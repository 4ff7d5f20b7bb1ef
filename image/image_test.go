package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"caravel/chunker"
	"caravel/image"
	"caravel/store"
)

// small makes images of a few hundred chunks out of little data.
var small = chunker.Params{Min: 256, Avg: 1024, Max: 4096}

// A shelf is a store in memory that counts and can be told to fail.
type shelf struct {
	mu     sync.Mutex // guards plain
	plain  map[chunker.ID][]byte
	gets   atomic.Int64
	asked  atomic.Int64 // by Has
	synced atomic.Int64

	failAfter int64 // Get fails from this one on; 0: never
	putError  error
}

func newShelf() *shelf { return &shelf{plain: map[chunker.ID][]byte{}} }

var errShelf = errors.New("the shelf broke")

func (s *shelf) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n := s.gets.Add(1); s.failAfter > 0 && n >= s.failAfter {
		return nil, errShelf
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plain, ok := s.plain[want.ID]
	if !ok {
		return nil, &store.MissingError{ID: want.ID, Where: "shelf"}
	}
	return store.NewStored(want, "shelf", store.None, plain, nil), nil
}

func (s *shelf) Has(_ context.Context, want store.Want) (bool, error) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.plain[want.ID]
	return ok, nil
}

func (s *shelf) Put(_ context.Context, c *store.Chunk) error {
	if s.putError != nil {
		return s.putError
	}
	plain, err := c.Plain()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plain[c.ID()] = bytes.Clone(plain)
	return nil
}

func (s *shelf) Sync(context.Context) error {
	s.synced.Add(1)
	return nil
}

// noise is n bytes that repeat for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// content is an image with noise, a long hole, text and repetition.
func content() []byte {
	var b []byte
	b = append(b, noise(1, 100_000)...)
	b = append(b, make([]byte, 300_000)...)
	b = append(b, noise(2, 50_000)...)
	b = append(b, bytes.Repeat([]byte("the same line again\n"), 5000)...)
	return append(b, noise(1, 100_000)...)
}

func made(t *testing.T, s *shelf, data []byte) *image.Made {
	t.Helper()
	m, err := image.Make(t.Context(), bytes.NewReader(data), s, image.MakeOptions{Params: small})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMakeDescribesTheStream(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 4096, 100_000} {
		data := noise(uint64(n), n)
		s := newShelf()
		m := made(t, s, data)
		if m.Index.Size() != int64(n) {
			t.Errorf("%d bytes: the index says %d", n, m.Index.Size())
		}
		if want := chunker.SHA512_256.Sum(data); m.Digest != want {
			t.Errorf("%d bytes: digest %v, want %v", n, m.Digest, want)
		}
		if s.synced.Load() != 1 {
			t.Errorf("%d bytes: synced %d times", n, s.synced.Load())
		}
		var out bytes.Buffer
		if err := image.Stream(t.Context(), m.Index, s, &out, 0, int64(n), image.StreamOptions{}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%d bytes: not the same came back", n)
		}
	}
}

func TestMakeStoresRepeatedChunksOnce(t *testing.T) {
	s := newShelf()
	m := made(t, s, content())
	if int(m.Stored) != len(s.plain) || m.Stored+m.Reused != int64(m.Index.Len()) {
		t.Errorf("stored %d, reused %d, index %d, store %d", m.Stored, m.Reused, m.Index.Len(), len(s.plain))
	}
	again := made(t, s, content())
	if again.Stored != 0 {
		t.Errorf("stored %d chunks that were there", again.Stored)
	}
}

func TestMakeRepairsWhatItChecks(t *testing.T) {
	s := newShelf()
	m := made(t, s, content())
	id := m.Index.Chunk(3).ID
	s.plain[id] = []byte("damaged")
	opt := image.MakeOptions{Params: small, CheckExisting: true}
	again, err := image.Make(t.Context(), bytes.NewReader(content()), s, opt)
	if err != nil {
		t.Fatal(err)
	}
	if again.Stored != 1 || chunker.SHA512_256.Sum(s.plain[id]) != id {
		t.Errorf("stored %d, want the damaged one", again.Stored)
	}
}

func TestMakeFails(t *testing.T) {
	broken := newShelf()
	broken.putError = errShelf
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errShelf)
	tests := []struct {
		name string
		ctx  context.Context
		r    io.Reader
		s    *shelf
	}{
		{"source", t.Context(), io.MultiReader(bytes.NewReader(content()), iotest.ErrReader(errShelf)), newShelf()},
		{"store", t.Context(), bytes.NewReader(content()), broken},
		{"cancelled", ended, bytes.NewReader(content()), newShelf()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := image.Make(tt.ctx, tt.r, tt.s, image.MakeOptions{Params: small})
			if !errors.Is(err, errShelf) {
				t.Errorf("got %v", err)
			}
			if tt.s.synced.Load() != 0 {
				t.Error("synced what is not complete")
			}
		})
	}
}

// TestMakeFailsBesideAPipe has the store fail while the source is silent.
func TestMakeFailsBesideAPipe(t *testing.T) {
	broken := newShelf()
	broken.putError = errShelf
	r, w := io.Pipe()
	go w.Write(noise(1, 3<<20)) // and nothing more, nor the end
	opt := image.MakeOptions{Params: small, Interrupt: func() { r.Close() }}
	if _, err := image.Make(t.Context(), r, broken, opt); !errors.Is(err, errShelf) {
		t.Errorf("got %v", err)
	}
}

func TestMakeRefusesSizesThatCannotBeCut(t *testing.T) {
	_, err := image.Make(t.Context(), strings.NewReader("x"), nil, image.MakeOptions{Params: chunker.Params{Min: 10, Avg: 20, Max: 40}})
	if err == nil || !strings.Contains(err.Error(), "below 48") {
		t.Errorf("got %v", err)
	}
}

func TestStreamRanges(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	for _, r := range [][2]int64{{0, 0}, {0, 1}, {5, 100}, {4000, 20_000}, {100_000, 300_000}, {int64(len(data)) - 1, 1}, {int64(len(data)), 0}} {
		var out bytes.Buffer
		if err := image.Stream(t.Context(), x, s, &out, r[0], r[1], image.StreamOptions{InFlight: 3}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data[r[0]:r[0]+r[1]]) {
			t.Errorf("%v: not the right bytes", r)
		}
	}
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(len(data)) + 1}, {int64(len(data)) + 1, 0}, {1, 1<<63 - 1}} {
		if err := image.Stream(t.Context(), x, s, io.Discard, r[0], r[1], image.StreamOptions{}); err == nil {
			t.Errorf("%v: no error", r)
		}
	}
}

func TestStreamStopsAtWhatIsForged(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	bad := x.Chunk(10)
	s.plain[bad.ID] = noise(9, bad.Size)
	var out bytes.Buffer
	err := image.Stream(t.Context(), x, s, &out, 0, x.Size(), image.StreamOptions{})
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), bad.ID.String()) {
		t.Errorf("got %v", err)
	}
	if int64(out.Len()) != bad.Start {
		t.Errorf("%d bytes came out, the bad chunk is at %d", out.Len(), bad.Start)
	}
}

func TestStreamToAFullPipe(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	r, w := io.Pipe()
	r.CloseWithError(errShelf)
	if err := image.Stream(t.Context(), x, s, w, 0, x.Size(), image.StreamOptions{}); !errors.Is(err, errShelf) {
		t.Errorf("got %v", err)
	}
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: not the image", filepath.Base(path))
	}
}

// leftovers lists what lies beside the target.
func leftovers(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			names = append(names, e.Name())
		}
	}
	return names
}
