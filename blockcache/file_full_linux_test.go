package blockcache

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// countedStore counts what it is asked for, and the bytes that are not released.
type countedStore struct {
	mapStore
	gets, live atomic.Int64
}

func (s *countedStore) Get(_ context.Context, w store.Want) (*store.Chunk, error) {
	s.gets.Add(1)
	plain := s.mapStore[w.ID]
	s.live.Add(int64(len(plain)))
	return store.NewChunk(w.ID, w.Digest, plain, func() { s.live.Add(-int64(len(plain))) }), nil
}

// numberedImage is an image of n chunks of a size, and its store.
func numberedImage(t testing.TB, n, size int) (*index.Index, *countedStore) {
	t.Helper()
	s := &countedStore{mapStore: make(mapStore)}
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: size, Max: 2 * size})
	for i := range n {
		plain := make([]byte, size)
		plain[0], plain[1], plain[2] = 1, byte(i), byte(i>>8)
		id := chunker.SHA512_256.Sum(plain)
		s.mapStore[id] = plain
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index(), s
}

// spoil has the writes to one of the two files of a File go through bad.
func spoil(name string, bad *spoiled) func(path string, s sink) sink {
	return func(path string, s sink) sink {
		if filepath.Base(path) != name {
			return s
		}
		bad.sink = s
		return bad
	}
}

// Much that the map has no room for is tried again in peace.
func TestMapWithoutRoom(t *testing.T) {
	x, s := numberedImage(t, rememberRows+100, 3)
	path := filepath.Join(t.TempDir(), "f")
	synctest.Test(t, func(t *testing.T) {
		fine := func() error { return nil }
		bad := &spoiled{write: fine, sync: fine}
		f, err := openFile(path, x, FileOptions{Size: x.Size()}, spoil("f.map", bad))
		if err != nil {
			t.Fatal(err)
		}
		var full, tries atomic.Int64
		full.Store(1)
		bad.write = func() error {
			if tries.Add(1) < 1000 && full.Load() == 1 {
				return unix.ENOSPC
			}
			return nil
		}
		img := New(x, s, Options{})
		if err := img.Fill(t.Context(), f, store.Sweep); err == nil {
			t.Error("filled, though the map has no room")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := tries.Load(); n > 20 {
			t.Errorf("%d tries in a minute", n)
		}
		full.Store(0)
		time.Sleep(2 * fullPause)
		if err := img.Fill(t.Context(), f, store.Sweep); err != nil || !f.Complete() {
			t.Error(err)
		}
		img.Close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// While the disk is full one chunk is fetched for it now and then, and when there
// is room again, the others.
func TestFullDiskIsTriedRarely(t *testing.T) {
	x, s := numberedImage(t, 100, 1000)
	path := filepath.Join(t.TempDir(), "f")
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		fine := func() error { return nil }
		bad := &spoiled{sync: fine, write: func() error {
			if full.Load() {
				return unix.ENOSPC
			}
			return nil
		}}
		f, err := openFile(path, x, FileOptions{Size: x.Size()}, spoil("f", bad))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		full.Store(true)
		img := New(x, s, Options{})
		defer img.Close()
		img.Attach(f)
		all := func() (kept int) {
			for row := range x.Len() {
				if _, err := img.Keep(t.Context(), row, store.Sweep); err == nil {
					kept++
				}
			}
			return kept
		}
		for range 10 {
			before := s.gets.Load()
			if n := all(); n != 0 || s.gets.Load() != before+1 {
				t.Errorf("%d chunks kept, %d fetched", n, s.gets.Load()-before)
			}
			time.Sleep(2 * fullPause)
		}
		full.Store(false)
		if n := all(); n != x.Len() {
			t.Errorf("%d chunks kept when there was room again", n)
		}
	})
}

// What is read ahead does not wait in memory for a disk that is slower.
func TestSlowDiskTakesNoMemory(t *testing.T) {
	const chunk, budget = 64 << 10, 1 << 20
	x, s := numberedImage(t, 256, chunk)
	path := filepath.Join(t.TempDir(), "f")
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		bad := &spoiled{sync: func() error { return nil }, write: func() error { <-stuck; return nil }}
		f, err := openFile(path, x, FileOptions{Size: x.Size()}, spoil("f", bad))
		if err != nil {
			t.Fatal(err)
		}
		img := New(x, s, Options{Memory: NewMemory(budget)})
		img.Attach(f)
		ahead, p := img.View(store.ReadAhead), make([]byte, chunk)
		for off := int64(0); off < x.Size(); off += chunk {
			ahead.Want(Range{off, 4 * chunk})
			if _, err := img.View(store.Demand).ReadAt(t.Context(), p, off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := s.live.Load(); n > budget+queueBytes {
			t.Errorf("%d KiB in memory, want %d at most", n>>10, (budget+queueBytes)>>10)
		}
		close(stuck)
		img.Close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What the last readers find of a file that is closed below them is not told.
func TestClosedFileSaysNothing(t *testing.T) {
	x, _ := numberedImage(t, 2, 1000)
	var said syncBuffer
	opt := FileOptions{Size: x.Size(), Log: said.logger()}
	f, err := openFile(filepath.Join(t.TempDir(), "f"), x, opt, func(_ string, s sink) sink { return s })
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.giveUp(errCut); err == nil || said.String() != "" {
		t.Errorf("%v, said %q", err, said.String())
	}
}

// However many files are filled at once, they share what may be under way.
func TestFillsShareTheirBytes(t *testing.T) {
	const chunk = 512 << 10
	x, s := numberedImage(t, 80, chunk)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		img := New(x, s, Options{})
		var fills sync.WaitGroup
		for off := int64(0); off < x.Size(); off += x.Size() / 2 {
			name := strconv.FormatInt(off, 10)
			bad := &spoiled{sync: func() error { return nil }, write: func() error { <-stuck; return nil }}
			f, err := openFile(filepath.Join(dir, name), x, FileOptions{Off: off, Size: x.Size() / 2}, spoil(name, bad))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fills.Go(func() {
				if err := img.Fill(t.Context(), f, store.Sweep); err != nil || !f.Complete() {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := s.live.Load(); n != fillBytes {
			t.Errorf("%d KiB under way, want %d", n>>10, fillBytes>>10)
		}
		close(stuck)
		fills.Wait()
		img.Close()
	})
}
