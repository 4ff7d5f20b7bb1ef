//go:build linux

package integration

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/chunker"
	"caravel/index"
	"caravel/store"
	"caravel/store/open"
)

const (
	hugeSize  = 20 << 30
	hugeChunk = 256 << 10
)

// A hugeCutter makes an index and its chunks of what an encoder writes. The zeros it
// knows by their address: 20 GiB of them are neither digested nor compared.
type hugeCutter struct {
	t       *testing.T
	index   *index.Builder
	store   store.Writer
	zeros   []byte
	zeroID  chunker.ID
	pending []byte
}

func (c *hugeCutter) Write(p []byte) (int, error) {
	if len(p) == hugeChunk && &p[0] == &c.zeros[0] {
		return len(p), errors.Join(c.flush(), c.index.Append(c.zeroID, len(p)))
	}
	c.pending = append(c.pending, p...)
	for len(c.pending) >= hugeChunk {
		rest := c.pending[hugeChunk:]
		c.pending = c.pending[:hugeChunk]
		if err := c.flush(); err != nil {
			return 0, err
		}
		c.pending = rest
	}
	return len(p), nil
}

// flush makes a chunk of what is pending.
func (c *hugeCutter) flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	b := c.pending
	c.pending = nil
	chunk := store.NewChunk(chunker.SHA512_256.Sum(b), chunker.SHA512_256, b, nil)
	return errors.Join(c.store.Put(c.t.Context(), chunk), c.index.Append(chunk.ID(), len(b)))
}

// hugeTree is a file of 20 GiB, nearly all of it holes, and the index of a tree with
// just that. Nobody packs it: that would be half a minute of digesting zeros.
func hugeTree(t *testing.T) (source, indexFile string, data []int64) {
	t.Helper()
	dir := t.TempDir()
	source, indexFile = filepath.Join(dir, "huge"), filepath.Join(dir, "tree.caidx")
	// The chunks with something in them: the ends, and where 32 bits end, signed or not.
	data = []int64{0, 1, 4095, 8191, 8192, 16383, 16384, 50_000, hugeSize/hugeChunk - 1}
	s, err := open.Writer(filepath.Join(dir, "default.castr"), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := flagsOf(t, nil)
	c := &hugeCutter{t: t, index: index.NewBuilder(flags, chunker.DefaultParams()), store: s, zeros: make([]byte, hugeChunk)}
	c.zeroID = chunker.SHA512_256.Sum(c.zeros)
	err = s.Put(t.Context(), store.NewChunk(c.zeroID, chunker.SHA512_256, c.zeros, nil))
	e, encErr := catar.NewEncoder(c, flags)
	err = errors.Join(err, encErr, f.Truncate(hugeSize))
	if err == nil {
		err = errors.Join(e.Begin("", &catar.Entry{Mode: catar.ModeDir | 0o755}),
			e.Begin("huge", &catar.Entry{Mode: catar.ModeRegular | 0o644, Size: hugeSize}))
	}
	rng := rand.New(rand.NewPCG(82, 1))
	left := data
	for i := int64(0); i < hugeSize/hugeChunk && err == nil; i++ {
		b := c.zeros
		if len(left) > 0 && left[0] == i {
			left, b = left[1:], make([]byte, hugeChunk)
			for j := range 5000 {
				b[len(b)-5000+j] = byte(rng.Uint32())
			}
			_, err = f.WriteAt(b, i*hugeChunk)
		}
		if err == nil {
			_, err = e.Write(b)
		}
	}
	if err == nil {
		err = errors.Join(e.End(), c.flush())
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(indexFile)
	if err == nil {
		_, err = c.index.Index().WriteTo(out)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return source, indexFile, data
}

// TestMountHugeFile reads a file of 20 GiB: where something is, at all ends, and here
// and there; in a long run all of it, which is then packed, too.
func TestMountHugeFile(t *testing.T) {
	needFUSE(t)
	source, indexFile, data := hugeTree(t)
	_, dir := mountedTree(t, "--no-sweep", indexFile)
	st := statOf(t, dir+"/huge")
	if st.Size != hugeSize || st.Blocks != int64(len(data))*hugeChunk/512 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	f, err := os.Open(dir + "/huge")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	rng := rand.New(rand.NewPCG(82, 2))
	places := []int64{hugeSize - 1, hugeSize - hugeChunk - 1, hugeSize - 3*hugeChunk}
	for _, i := range data {
		places = append(places, max(0, i*hugeChunk-3), i*hugeChunk, i*hugeChunk+hugeChunk-5001)
	}
	for range times(200, 2000) {
		places = append(places, rng.Int64N(hugeSize))
	}
	a, b := make([]byte, hugeChunk), make([]byte, hugeChunk)
	for _, off := range places {
		n, err := f.ReadAt(a, off)
		m, wantErr := want.ReadAt(b, off)
		if n != m || err != wantErr || !bytes.Equal(a[:n], b[:m]) {
			t.Errorf("at %d: %d bytes and %v, want %d and %v", off, n, err, m, wantErr)
		}
	}
	mappedEnd(t, f, want)
	if n, err := f.ReadAt(a, hugeSize); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
	if !long() {
		return
	}
	same(t, dir+"/huge", source)
	lone := t.TempDir()
	if err := os.Rename(source, filepath.Join(lone, "huge")); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "tree.caidx")
	if got := must(t, caravel, "digest", "--with=fifos", dir); got != must(t, caravel, "make", "--no-sync", "--no-store", "--with=fifos", packed, lone) {
		t.Errorf("digest %s", strings.TrimSpace(got))
	}
}

// mappedEnd compares the last MiB of two files by maps.
func mappedEnd(t *testing.T, got, want *os.File) {
	t.Helper()
	var parts [2][]byte
	for i, f := range []*os.File{got, want} {
		b, err := unix.Mmap(int(f.Fd()), hugeSize-1<<20, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(b)
		parts[i] = b
	}
	if !bytes.Equal(parts[0], parts[1]) {
		t.Error("the end is another one in a map")
	}
}
