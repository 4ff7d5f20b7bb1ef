package blockcache

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
	"testing"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/store"
)

// noisyImage is the index and the store of n bytes of noise, with a hole, in
// chunks of different sizes.
func noisyImage(t testing.TB, n int) ([]byte, *index.Index, mapStore) {
	t.Helper()
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(data)
	clear(data[n/3 : n/2])
	s := make(mapStore)
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 1024, Max: 4096})
	for off, size := 0, 1; off < n; off, size = off+size, size%4096+777 {
		size = min(size, 4096, n-off)
		id := chunker.SHA512_256.Sum(data[off : off+size])
		s[id] = data[off : off+size]
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
	}
	return data, b.Index(), s
}

// A mapStore has chunks in a map.
type mapStore map[chunker.ID][]byte

func (s mapStore) Get(_ context.Context, w store.Want) (*store.Chunk, error) {
	plain, ok := s[w.ID]
	if !ok {
		return nil, &store.MissingError{ID: w.ID, Where: "map"}
	}
	return store.NewChunk(w.ID, w.Digest, bytes.Clone(plain), nil), nil
}

func (s mapStore) Has(_ context.Context, w store.Want) (bool, error) {
	_, ok := s[w.ID]
	return ok, nil
}

// A journal notes what is written to the two files of a File, and what of it
// has been brought to the disk.
type journal struct {
	mu    sync.Mutex
	lines []line
}

// A line is a write, or if p is nil, the end of a Sync that has all writes to
// the same file before the line known.
type line struct {
	name  string
	off   int64
	p     []byte
	known int
}

type journaled struct {
	sink
	name string
	to   *journal
}

func (j *journal) wrap(path string, s sink) sink { return journaled{s, filepath.Base(path), j} }

func (s journaled) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.sink.WriteAt(p, off)
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	s.to.lines = append(s.to.lines, line{name: s.name, off: off, p: bytes.Clone(p)})
	return n, err
}

func (s journaled) Sync() error {
	s.to.mu.Lock()
	known := len(s.to.lines)
	s.to.mu.Unlock()
	err := s.sink.Sync()
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	s.to.lines = append(s.to.lines, line{name: s.name, known: known})
	return err
}

// after is what a file may be after a crash behind the first n lines. What was
// not brought to the disk is there, or not, or in part: luck decides.
func (j *journal) after(n int, name string, begin []byte, luck func() float64) []byte {
	b := bytes.Clone(begin)
	safe := 0
	for _, l := range j.lines[:n] {
		if l.name == name && l.p == nil {
			safe = max(safe, l.known)
		}
	}
	for i, l := range j.lines[:n] {
		if l.name != name || l.p == nil {
			continue
		}
		p := l.p
		if i >= safe {
			p = p[:int(luck()*float64(len(p)))]
		}
		copy(b[l.off:], p)
	}
	return b
}

// After a power cut at any point the map is not ahead of the data, and whatever
// part of the rest had come to the disk, no wrong byte is read.
func TestFilePowerCut(t *testing.T) {
	const off, cut = 5000, 8000
	data, x, s := noisyImage(t, 200_000)
	size := x.Size() - off - cut
	opt := FileOptions{Index: [32]byte{1}, Off: off, Size: size}
	var j journal
	path := filepath.Join(t.TempDir(), "f")
	f, err := openFile(path, x, opt, j.wrap)
	if err != nil {
		t.Fatal(err)
	}
	chart := make([]byte, f.chart.length())
	copy(chart, f.chart.encode()) // on disk before the file has bytes
	j.lines = nil
	img := New(x, s, Options{})
	img.Attach(f)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, row := range rng.Perm(x.Len()) {
		if row >= f.first && row < f.first+f.rows {
			if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
				t.Fatal(err)
			}
		}
		if rng.IntN(8) == 0 {
			if err := f.sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	img.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	none, all := func() float64 { return 0 }, func() float64 { return 1 }
	begin := make([]byte, size)
	for n := range len(j.lines) + 1 {
		for _, luck := range []func() float64{all, rng.Float64} {
			ahead(t, n, f, j.after(n, "f.map", chart, luck), j.after(n, "f", begin, none), data)
		}
		if n%16 == 0 || n == len(j.lines) {
			reopen(t, x, s, opt, j.after(n, "f.map", chart, rng.Float64), j.after(n, "f", begin, rng.Float64), data)
		}
	}
	f, here := reopen(t, x, s, opt, j.after(len(j.lines), "f.map", chart, none), j.after(len(j.lines), "f", begin, none), data)
	if here != f.rows {
		t.Errorf("%d chunks of %d are there after Close", here, f.rows)
	}
}

// ahead fails if a map has chunks that are not in the data.
func ahead(t *testing.T, n int, f *File, chart, file, data []byte) {
	t.Helper()
	for r := range f.rows {
		if chart[chartBlock+r/8]&(1<<(r%8)) == 0 {
			continue
		}
		start, end := f.inside(f.index.Chunk(f.first + r))
		if !bytes.Equal(file[start-f.opt.Off:end-f.opt.Off], data[start:end]) {
			t.Errorf("line %d: chunk %d is in the map and not in the data", n, r)
		}
	}
}

// reopen opens what a crash has left, and reads it to the end. It returns how
// many chunks were there.
func reopen(t *testing.T, x *index.Index, s store.Store, opt FileOptions, chart, file, data []byte) (f *File, here int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(path, file, 0o600), os.WriteFile(path+MapSuffix, chart, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path, x, opt)
	if err != nil {
		t.Fatal(err)
	}
	img := New(x, s, Options{})
	img.Attach(f)
	p := make([]byte, opt.Size)
	if _, err := img.View(store.Demand).ReadAt(t.Context(), p, opt.Off); err != nil || !bytes.Equal(p, data[opt.Off:][:opt.Size]) {
		t.Errorf("wrong bytes or %v", err)
	}
	st := img.Stats()
	if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f.Backing()); err != nil || !bytes.Equal(got, data[opt.Off:][:opt.Size]) {
		t.Errorf("wrong bytes in the file or %v", err)
	}
	img.Close()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	return f, int(st.File + st.Zeros)
}

// A spoiled sink fails as it is told.
type spoiled struct {
	sink
	write, sync func() error
}

func (s *spoiled) WriteAt(p []byte, off int64) (int, error) {
	if err := s.write(); err != nil {
		n, _ := s.sink.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return s.sink.WriteAt(p, off)
}

func (s *spoiled) Sync() error {
	if err := s.sync(); err != nil {
		return err
	}
	return s.sink.Sync()
}

// A disk that fails is told of once, and the reads go on without it.
func TestFileDiskFails(t *testing.T) {
	broken, fine := func() error { return errors.New("input/output error") }, func() error { return nil }
	for _, tt := range []struct {
		name        string
		file        string
		write, sync func() error
	}{
		{"writes", "f", broken, fine},
		{"syncs", "f", fine, broken},
		{"writes of the map", "f.map", broken, fine},
		{"syncs of the map", "f.map", fine, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, x, s := noisyImage(t, 100_000)
			var said syncBuffer
			opt := FileOptions{Off: 100, Size: x.Size() - 100, Log: said.logger()}
			bad := &spoiled{write: fine, sync: fine}
			f, err := openFile(filepath.Join(t.TempDir(), "f"), x, opt, func(path string, s sink) sink {
				if filepath.Base(path) != tt.file {
					return s
				}
				bad.sink = s
				return bad
			})
			if err != nil {
				t.Fatal(err)
			}
			bad.write, bad.sync = tt.write, tt.sync
			img := New(x, s, Options{})
			img.Attach(f)
			defer img.Close()
			if err := img.Fill(t.Context(), f, store.Sweep); err == nil || f.Complete() || f.Backing() != nil {
				t.Errorf("Fill: %v", err)
			}
			p := make([]byte, len(data))
			for range 2 {
				if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
					t.Errorf("wrong bytes or %v", err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if n := strings.Count(said.String(), "input/output error"); n != 1 {
				t.Errorf("said %d times: %s", n, said.String())
			}
		})
	}
}

// A cutter shortens the file right before the chunk is written that ends it.
type cutter struct {
	sink
	path string
	size int64
	to   int64 // the length, once; -1: as it is
}

func (c *cutter) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) == c.size && c.to >= 0 {
		if err := os.Truncate(c.path, c.to); err != nil {
			return 0, err
		}
		c.to = -1
	}
	return c.sink.WriteAt(p, off)
}

// Whoever shortens the file at the only instant at which we do not see it, since
// what we write makes it whole again, does not make a wrong byte either.
func TestFileCutAtTheLast(t *testing.T) {
	data, x, s := noisyImage(t, 300_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		path := filepath.Join(t.TempDir(), "f")
		cut := &cutter{path: path, size: x.Size(), to: -1}
		f, err := openFile(path, x, FileOptions{Size: x.Size()}, func(name string, s sink) sink {
			if name != path {
				return s
			}
			cut.sink = s
			return cut
		})
		if err != nil {
			t.Fatal(err)
		}
		img := New(x, s, Options{})
		img.Attach(f)
		for row := range x.Len() - 1 {
			if rng.IntN(4) > 0 {
				if _, err := img.Keep(t.Context(), row, store.Sweep); err != nil {
					t.Fatal(err)
				}
			}
		}
		cut.to = rng.Int64N(x.Size())
		if _, err := img.Keep(t.Context(), x.Len()-1, store.Sweep); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, x.Size())
		for range 2 {
			if _, err := img.View(store.Demand).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
				t.Fatalf("wrong bytes or %v", err)
			}
		}
		if err := img.Fill(t.Context(), f, store.Sweep); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f.Backing()); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("wrong bytes in the file or %v", err)
		}
		img.Close()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
