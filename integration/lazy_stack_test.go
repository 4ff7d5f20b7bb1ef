package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caravel/blockcache"
	"caravel/chunker"
	"caravel/image"
	"caravel/index"
	"caravel/internal/origin"
	"caravel/prefetch"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/http"
	"caravel/store/local"
)

// The tests of this file put the rooms of lazy reading together as the commands
// do, in one process, and read from them as an unruly crowd does. They mean
// most under the race detector, where a buffer that was given back is poisoned.

// A lazyStack is an image behind all that is between a reader and its origins.
type lazyStack struct {
	data   []byte
	index  *index.Index
	store  store.Store
	memory *blockcache.Memory
	image  atomic.Pointer[blockcache.Image]
}

// newLazyStack cuts an image into a store in dir. What its chunks are read from
// is left to the caller.
func newLazyStack(t *testing.T, dir string, size int) *lazyStack {
	t.Helper()
	l := &lazyStack{data: make([]byte, size), memory: blockcache.NewMemory(1 << 20)}
	rand.NewChaCha8([32]byte{7}).Read(l.data)
	clear(l.data[size/2 : size/2+size/16])           // a hole
	copy(l.data[size/4:], l.data[size/8:size/8+1e5]) // repeated chunks
	w, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := image.Make(t.Context(), bytes.NewReader(l.data), w, image.MakeOptions{Params: chunker.Around(8 << 10)})
	if err != nil {
		t.Fatal(err)
	}
	l.index = made.Index
	return l
}

// open puts a new image in the place of the one that is read, and closes that.
func (l *lazyStack) open() {
	if old := l.image.Swap(blockcache.New(l.index, l.store, blockcache.Options{Memory: l.memory})); old != nil {
		_ = old.Close() // never fails
	}
}

// reader reads the image as it is now, with read-ahead.
func (l *lazyStack) reader() *prefetch.Reader {
	img := l.image.Load()
	return prefetch.NewReader(img.View(store.Demand), img.View(store.ReadAhead),
		prefetch.Options{Memory: 1 << 20, Chunk: 8 << 10})
}

// crowd lets many read at once, at random and in streams. Some leave early,
// and now and then the image is closed and opened anew. What is read must be
// right, and nothing may fail but for these two reasons.
func (l *lazyStack) crowd(t *testing.T, readers, reads int) {
	t.Helper()
	l.open()
	done := make(chan struct{})
	var closer, crowd sync.WaitGroup
	closer.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-tick.C:
				l.open()
			case <-done:
				tick.Stop()
				return
			}
		}
	})
	for i := range readers {
		crowd.Go(func() { l.read(t, rand.New(rand.NewPCG(1, uint64(i))), reads) })
	}
	crowd.Wait()
	close(done)
	closer.Wait()
	_ = l.image.Load().Close()
}

// read is one of the crowd.
func (l *lazyStack) read(t *testing.T, rnd *rand.Rand, reads int) {
	r, off := l.reader(), int64(0)
	buf := make([]byte, 200_000)
	for i := range reads {
		if i%16 == 0 {
			off = rnd.Int64N(int64(len(l.data)))
		}
		p := buf[:1+rnd.IntN(len(buf))>>rnd.IntN(8)]
		ctx, cancel := context.WithCancel(t.Context())
		leaves := rnd.IntN(4) == 0
		if leaves {
			time.AfterFunc(time.Duration(rnd.IntN(5_000))*time.Microsecond, cancel)
		}
		n, err := r.ReadAt(ctx, p, off)
		cancel()
		if !bytes.Equal(p[:n], l.data[off:off+int64(n)]) {
			t.Errorf("%d bytes at %d: wrong", n, off)
			return
		}
		off += int64(n)
		switch {
		case off == int64(len(l.data)):
			off = 0
		case errors.Is(err, fs.ErrClosed):
			r = l.reader()
		case err != nil && !(leaves && errors.Is(err, context.Canceled)):
			t.Errorf("%d bytes at %d: %v", len(p), off, err)
			return
		}
	}
}

// settles waits until no more goroutines run than before.
func settles(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// A ledger is an origin that knows which of its chunks have not been given back.
// A chunk comes in the form f, and what was given back is overwritten.
type ledger struct {
	chunks   map[chunker.ID][]byte // in the form
	form     store.Form
	mu       sync.Mutex         // guards what follows
	asked    map[chunker.ID]int // times
	out, big int64              // bytes that are not back; the most at any time
	again    int                // buffers that were given back twice
}

// newLedger holds the chunks of an image.
func newLedger(t *testing.T, l *lazyStack, f store.Form) *ledger {
	t.Helper()
	g := &ledger{chunks: map[chunker.ID][]byte{}, form: f, asked: map[chunker.ID]int{}}
	for i := range l.index.Len() {
		c := l.index.Chunk(i)
		plain := store.NewChunk(c.ID, l.index.Digest(), l.data[c.Start:c.End()], nil)
		err := plain.Stored(f, func(b []byte) error {
			g.chunks[c.ID] = slices.Clone(b)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		plain.Release()
	}
	return g
}

// Get fails at first for every fourth chunk, and never answers the first
// request for one in thirty-two.
func (g *ledger) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	b, ok := g.chunks[want.ID]
	if !ok {
		return nil, &store.MissingError{ID: want.ID, Where: "the ledger"}
	}
	g.mu.Lock()
	g.asked[want.ID]++
	asked := g.asked[want.ID]
	g.mu.Unlock()
	switch {
	case asked == 1 && want.ID[0]%32 == 0:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case asked <= 3 && want.ID[0]%4 == 1:
		return nil, fmt.Errorf("ledger: request %d: connection reset", asked)
	}
	b = slices.Clone(b)
	g.took(int64(len(b)))
	var back atomic.Bool
	return store.NewStored(want, "the ledger", g.form.Compression, b, func() {
		for i := range b {
			b[i] = 0xdb
		}
		g.gave(int64(len(b)), back.Swap(true))
	}), nil
}

func (g *ledger) Has(_ context.Context, want store.Want) (bool, error) {
	_, ok := g.chunks[want.ID]
	return ok, nil
}

func (g *ledger) took(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out += n
	g.big = max(g.big, g.out)
}

func (g *ledger) gave(n int64, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out -= n
	if again {
		g.again++
	}
}

// Everything that a crowd has made the origin give is given back, once, but for
// what the memory says that it holds.
func TestLazyStackGivesBack(t *testing.T) {
	tests := []struct {
		name  string
		form  store.Form
		cache bool
		keeps int64 // times what is in memory
	}{
		{"plain", store.Form{Compression: store.None}, false, 1},
		{"compressed", store.Form{}, false, 0},
		{"compressed, with a cache", store.Form{}, true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			dir := t.TempDir()
			l := newLazyStack(t, filepath.Join(dir, "store"), 4<<20)
			from := newLedger(t, l, tt.form)
			q := fetch.New(from, fetch.Options{Try: 200 * time.Millisecond})
			l.store = q
			if tt.cache {
				l.store = cached(t, filepath.Join(dir, "cache"), q)
			}
			l.crowd(t, 24, times(60, 1000))
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			s := l.memory.Stats()
			if s.UnderWay != 0 || s.Bytes > 1<<20 || s.Bytes == 0 {
				t.Errorf("memory: %d bytes of %d, and %d under way", s.Bytes, 1<<20, s.UnderWay)
			}
			if want := tt.keeps * s.Bytes; from.out != want || from.again != 0 {
				t.Errorf("%d bytes are not back, want %d; %d buffers came back twice", from.out, want, from.again)
			}
			settles(t, before)
		})
	}
}

// cached puts a store's chunks into a directory, too.
func cached(t *testing.T, dir string, s store.Store) store.Store {
	t.Helper()
	near, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	return store.Cache(near, s, nil)
}

// moods makes some paths bad for ever and lets everything else fail now and
// then. At fault is the path or the number, so both come to all readers.
func moods(n int64, path string) origin.Fault {
	h := fnv.New32a()
	h.Write([]byte(path))
	switch sum := h.Sum32() % 32; {
	case sum == 0:
		return origin.Fault{Kind: origin.Answer, Status: 404}
	case sum == 1:
		return origin.Fault{Kind: origin.Flip, At: 100}
	case n%13 == 0:
		return origin.Fault{Kind: origin.Answer, Status: 500}
	case n%29 == 0:
		return origin.Fault{Kind: origin.Answer, Status: 503}
	case n%31 == 0:
		return origin.Fault{Kind: origin.Cut, At: 64}
	case n%211 == 0:
		return origin.Fault{Kind: origin.Hang, At: 200}
	}
	return origin.Fault{}
}

// Two origins, each bad in its own way, give a crowd every byte, beside a sweep
// that is stopped and begun again.
func TestLazyStack(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	l := newLazyStack(t, filepath.Join(dir, "store"), times(8, 32)<<20)
	far, err := origin.Start(filepath.Join(dir, "store"), origin.Options{RTT: 2 * time.Millisecond, Faults: moods})
	if err != nil {
		t.Fatal(err)
	}
	client := http.NewClient(http.Options{})
	web, err := http.New(far.URL(), http.Options{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	other := newLedger(t, l, store.Form{})
	opt := fetch.Options{Tries: 2, Try: 300 * time.Millisecond}
	first, second := fetch.New(store.Chunks(web, store.Form{}), opt), fetch.New(other, opt)
	both := store.Retry(store.Router(nil, first, second), time.Minute)

	l.store = both
	l.crowd(t, 24, times(100, 1000))
	stop := l.sweep(t, filepath.Join(dir, "cache"), both)
	l.crowd(t, 24, times(100, 1000))
	stop()

	if err := errors.Join(first.Close(), second.Close(), far.Close()); err != nil {
		t.Error(err)
	}
	client.CloseIdleConnections()
	if s := l.memory.Stats(); s.UnderWay != 0 || s.Bytes > 1<<20 {
		t.Errorf("memory: %d bytes of %d, and %d under way", s.Bytes, 1<<20, s.UnderWay)
	}
	if other.out != 0 || other.again != 0 {
		t.Errorf("%d bytes are not back; %d buffers came back twice", other.out, other.again)
	}
	settles(t, before)
}

// sweep puts a cache in front of s, and fills it in the background until stop is
// called, with a new sweep every so often.
func (l *lazyStack) sweep(t *testing.T, dir string, s store.Store) (stop func()) {
	near, err := store.Writable(local.New(dir, local.Options{}), store.Form{})
	if err != nil {
		t.Fatal(err)
	}
	l.store = store.Cache(near, s, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var swept sync.WaitGroup
	swept.Go(func() {
		for ctx.Err() == nil {
			once, end := context.WithTimeout(ctx, 300*time.Millisecond)
			_, _ = prefetch.Sweep(once, lazyKeeper{l.index, l.store, near}, prefetch.SweepOptions{Chunk: 8 << 10}) // ends with its time
			<-once.Done()
			end()
		}
	})
	return func() {
		cancel()
		swept.Wait()
	}
}

// A lazyKeeper keeps what is swept in a cache.
type lazyKeeper struct {
	index       *index.Index
	store, near store.Store
}

func (k lazyKeeper) Rows() int { return k.index.Len() }

func (k lazyKeeper) want(row int) store.Want {
	c := k.index.Chunk(row)
	return store.Want{ID: c.ID, Size: c.Size, Digest: k.index.Digest(), Class: store.Sweep}
}

func (k lazyKeeper) Kept(ctx context.Context, row int) bool {
	ok, err := k.near.Has(ctx, k.want(row))
	return ok && err == nil
}

func (k lazyKeeper) Keep(ctx context.Context, row int) (int, error) {
	c, err := k.store.Get(ctx, k.want(row))
	if err != nil {
		return 0, err
	}
	c.Release()
	return k.want(row).Size, nil
}
