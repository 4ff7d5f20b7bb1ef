package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store"
)

// A slowTable is an index of which rows come late, each time a while after
// somebody asked, or fail.
type slowTable struct {
	*index.Index
	delay time.Duration
	fail  error

	mu   sync.Mutex
	here map[int]bool // rows that have come
}

func (s *slowTable) Seek(ctx context.Context, off int64) (int, error) {
	row := s.Find(off)
	return row, s.wait(ctx, row)
}

func (s *slowTable) Row(ctx context.Context, i int) (index.Chunk, error) {
	return s.Chunk(i), s.wait(ctx, i)
}

func (s *slowTable) wait(ctx context.Context, row int) error {
	s.mu.Lock()
	here := s.here[row]
	s.mu.Unlock()
	if here {
		return nil
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.here[row] = s.fail == nil
	return s.fail
}

func (s *slowTable) Ready(off, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, end := s.Range(off, n)
	for row := first; row < end; row++ {
		if !s.here[row] {
			return false
		}
	}
	return true
}

var _ index.Table = (*slowTable)(nil)

// A reader waits for the rows that it needs, once; nothing else waits.
func TestRowsOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := append(noise(9000), make([]byte, 1000)...)
		x, s := image(t, data, 1000)
		table := &slowTable{Index: x, delay: time.Second, here: make(map[int]bool)}
		begin := time.Now()
		img := blockcache.New(table, s, blockcache.Options{Memory: blockcache.NewMemory(1 << 20)})
		defer img.Close()
		v := img.View(store.Demand)
		if st, end := v.State(8500); st != blockcache.Absent || end != 8501 {
			t.Errorf("%v to %d", st, end)
		}
		for off := range img.Holes(0, 10_000) {
			t.Errorf("a hole at %d, where no row is known", off)
		}
		ahead := img.View(store.ReadAhead)
		ahead.Want(blockcache.Range{Off: 5000, Len: 2000}, blockcache.Range{Off: 8000, Len: 1})
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		p := make([]byte, 1500)
		for i, want := range []time.Duration{2 * time.Second, 0} {
			begin = time.Now()
			if n, err := v.ReadAt(t.Context(), p, 500); n != 1500 || err != nil || !bytes.Equal(p, data[500:2000]) {
				t.Fatalf("wrong bytes or %v", err)
			}
			if waited := time.Since(begin); waited != want {
				t.Errorf("read %d waited %v, not %v", i, waited, want)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, off := range []int64{5000, 6000, 8000} {
			if st, _ := v.State(off); st != blockcache.Resident {
				t.Errorf("the hint at %d was lost", off)
			}
		}
		for off, n := range img.Holes(8000, 2000) {
			if off != 9000 || n != 1000 {
				t.Errorf("%d bytes of hole at %d", n, off)
			}
		}
		if st := img.StatsOf(store.Demand); st.Waits != 2 || st.Waited != 2*time.Second {
			t.Errorf("%+v, want a wait of 2 s for rows and none for the chunks", st)
		}
	})
}

func TestRowsThatFail(t *testing.T) {
	x, s := image(t, noise(9000), 1000)
	bad := errors.New("index: offset 88: out of order")
	img := blockcache.New(&slowTable{Index: x, fail: bad, here: make(map[int]bool)}, s, blockcache.Options{})
	defer img.Close()
	ctx := t.Context()
	_, read := img.View(store.Demand).ReadAt(ctx, make([]byte, 10), 1234)
	_, keep := img.Keep(ctx, 3, store.Sweep)
	_, bring := img.View(store.Profile).Bring(ctx, 3)
	for name, err := range map[string]error{"read": read, "Keep": keep, "Bring": bring} {
		if !errors.Is(err, bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if read == nil || !strings.HasPrefix(read.Error(), "offset 1234: ") {
		t.Errorf("%v: does not say where", read)
	}
	if img.Kept(ctx, 3) {
		t.Error("kept")
	}
	img.View(store.ReadAhead).Want(blockcache.Range{Off: 0, Len: 5000}) // must not hang or panic
}

// Close ends what waits for rows.
func TestCloseWhileRowsAreAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, s := image(t, noise(9000), 1000)
		img := blockcache.New(&slowTable{Index: x, delay: time.Hour, here: make(map[int]bool)}, s, blockcache.Options{})
		errs := make(chan error)
		go func() {
			_, err := img.View(store.Demand).ReadAt(t.Context(), make([]byte, 10), 0)
			errs <- err
		}()
		go func() {
			_, err := img.View(store.Profile).Bring(t.Context(), 1)
			errs <- err
		}()
		img.View(store.ReadAhead).Want(blockcache.Range{Off: 5000, Len: 100})
		for range 200 { // more than may wait
			img.View(store.ReadAhead).Want(blockcache.Range{Off: 7000, Len: 100})
		}
		synctest.Wait()
		img.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, fs.ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// A lyingTable has rows that do not follow one another.
type lyingTable struct {
	*index.Index
	row index.Chunk
}

func (l lyingTable) Row(context.Context, int) (index.Chunk, error) { return l.row, nil }

func TestRowsThatLie(t *testing.T) {
	x, s := image(t, noise(9000), 1000)
	for _, row := range []index.Chunk{{}, {Start: 5000, Size: 1000}, {Start: 0, Size: 0}, {Start: 3000, Size: -5}, {Start: -1 << 62, Size: 1}} {
		img := blockcache.New(lyingTable{x, row}, s, blockcache.Options{})
		v := img.View(store.Demand)
		if n, err := v.ReadAt(t.Context(), make([]byte, 100), 2500); n != 0 || err == nil || err == io.EOF {
			t.Errorf("%+v: %d, %v", row, n, err)
		}
		v.Want(blockcache.Range{Off: 2500, Len: 100})
		if st, _ := v.State(2500); st != blockcache.Absent {
			t.Errorf("%+v: %v", row, st)
		}
		for range img.Holes(2500, 100) {
			t.Errorf("%+v: a hole", row)
		}
		img.Close()
	}
}

// A slowFile is an index file that is read over a link.
type slowFile struct {
	b     []byte
	delay time.Duration
}

func (s slowFile) Size() int64 { return int64(len(s.b)) }

func (s slowFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	select {
	case <-time.After(s.delay):
		return bytes.NewReader(s.b).ReadAt(p, off)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Readers, hints and what else looks at rows use an index that comes by ranges,
// while the rest of it is on its way.
func TestRemoteIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(200_000)
		x, s := image(t, data, 10)
		var file bytes.Buffer
		if _, err := x.WriteTo(&file); err != nil {
			t.Fatal(err)
		}
		remote, err := index.NewRemote(t.Context(), slowFile{file.Bytes(), time.Second})
		if err != nil {
			t.Fatal(err)
		}
		img := blockcache.New(remote, s, blockcache.Options{Memory: blockcache.NewMemory(50_000)})
		defer img.Close()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(g), 0))
				p := make([]byte, 200)
				for range 20 {
					off := rng.Int64N(x.Size() - int64(len(p)))
					img.View(store.ReadAhead).Want(blockcache.Range{Off: off, Len: 500})
					for range img.Holes(off, 10_000) {
						t.Error("a hole")
					}
					if n, err := img.View(store.Demand).ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, data[off:][:n]) {
						t.Errorf("wrong bytes at %d or %v", off, err)
					}
					img.View(store.Demand).State(off)
				}
			})
		}
		wg.Go(func() {
			time.Sleep(5 * time.Second)
			if _, err := remote.Fill(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		begin := time.Now()
		if got := content(t, img, 100_000, 3000); !bytes.Equal(got, data[100_000:][:3000]) || time.Since(begin) != 0 {
			t.Errorf("wrong bytes, or waited %v for rows that are here", time.Since(begin))
		}
	})
}
