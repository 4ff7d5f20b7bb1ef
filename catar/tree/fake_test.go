package tree_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// memory is an archive in memory.
type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// onDisk is an archive in a file.
type onDisk struct{ f io.ReaderAt }

func (d onDisk) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return d.f.ReadAt(p, off)
}

// An origin is a source that has its bytes in chunks, each of which takes a
// while to come and stays then.
type origin struct {
	src   io.ReaderAt
	size  int64
	chunk int64
	delay time.Duration

	reads, now, most atomic.Int64 // ReadAts: all, at one time, the most of those

	mu  sync.Mutex // guards got
	got map[int64]chan struct{}
}

func newOrigin(src io.ReaderAt, size int64) *origin {
	return &origin{src: src, size: size, chunk: 64 << 10, delay: 20 * time.Millisecond, got: make(map[int64]chan struct{})}
}

// want starts to fetch what is missing of a range and returns what to wait for.
func (o *origin) want(off, n int64) (all []chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := off / o.chunk; c*o.chunk < min(off+n, o.size); c++ {
		if o.got[c] == nil {
			done := make(chan struct{})
			o.got[c] = done
			time.AfterFunc(o.delay, func() { close(done) })
		}
		all = append(all, o.got[c])
	}
	return all
}

func (o *origin) Want(off, n int64) { o.want(off, n) }

func (o *origin) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	o.reads.Add(1)
	now := o.now.Add(1)
	defer o.now.Add(-1)
	for {
		most := o.most.Load()
		if now <= most || o.most.CompareAndSwap(most, now) {
			break
		}
	}
	for _, done := range o.want(off, int64(len(p))) {
		select {
		case <-done:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return o.src.ReadAt(p, off)
}

// requests is the number of chunks fetched so far.
func (o *origin) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.got)
}

// A maker writes an archive.
type maker struct {
	t testing.TB
	b bytes.Buffer
	e *catar.Encoder
}

const flags = feature.UID32 | feature.UserNames | feature.NanoTime | feature.Permissions | feature.Symlinks |
	feature.DeviceNodes | feature.FIFOs | feature.Sockets | feature.XAttrs | feature.SHA512_256

func newMaker(t testing.TB, f feature.Flags) *maker {
	m := &maker{t: t}
	var err error
	if m.e, err = catar.NewEncoder(&m.b, f); err != nil {
		t.Fatal(err)
	}
	m.dir("")
	return m
}

func (m *maker) begin(name string, e catar.Entry) {
	m.t.Helper()
	if err := m.e.Begin(name, &e); err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) dir(name string) {
	m.t.Helper()
	m.begin(name, catar.Entry{Mode: syscall.S_IFDIR | 0o755, MTime: 1e18})
}

func (m *maker) end() {
	m.t.Helper()
	if err := m.e.End(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) file(name string, size int) {
	m.t.Helper()
	m.begin(name, catar.Entry{Mode: syscall.S_IFREG | 0o644, UID: 1000, GID: 100, MTime: 1e18 + int64(size), Size: int64(size)})
	if _, err := m.e.Write(bytes.Repeat([]byte{'x'}, size)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) link(name, target string) {
	m.t.Helper()
	m.begin(name, catar.Entry{Mode: syscall.S_IFLNK | 0o777, Target: target})
}

// bytes ends the archive and returns it.
func (m *maker) bytes() []byte {
	m.t.Helper()
	m.end()
	return m.b.Bytes()
}

// wide is an archive with a directory d of n files, and a few more of sizes
// around those that are guessed.
func wide(t testing.TB, n int) []byte {
	m := newMaker(t, flags)
	m.file("0", 3)
	m.dir("d")
	for i := range n {
		m.file(fmt.Sprintf("file-%07d", i), i%7)
	}
	m.end()
	for i, size := range []int{0, 100, 1400, 1450, 1536, 2000, 4095, 5000, 70_000, 200_000} {
		m.file(fmt.Sprintf("e%d", i), size)
		m.dir(fmt.Sprintf("e%d-dir", i))
		m.file("one", size)
		m.end()
	}
	m.link("l", "0")
	m.link("long", strings.Repeat("0/", 2000))
	return m.bytes()
}

// deep is an archive of directories in one another, n of them below the root,
// each with some files around the next, and a file "b" in the last.
func deep(t testing.TB, n, size int) []byte {
	m := newMaker(t, flags)
	for range n {
		m.file("a", size)
		m.dir("d")
	}
	m.file("b", 10)
	for range n {
		m.end()
		m.file("z", size)
	}
	return m.bytes()
}

// unpack reads a file of testdata.
func unpack(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if path.Ext(name) != ".gz" {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b []byte) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(t.Context(), memory(b), int64(len(b)), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// everything walks the whole tree and reads each entry; it returns the paths.
func everything(ctx context.Context, tr *tree.Tree) (paths []string, err error) {
	for step, err := range tr.Walk(ctx, tree.Root, -1) {
		if err != nil {
			return paths, err
		}
		if _, err := tr.Entry(ctx, step.ID); err != nil {
			return paths, err
		}
		paths = append(paths, step.Path)
	}
	return paths, nil
}

var errBroken = errors.New("broken")

// A breaker fails to read some ranges.
type breaker struct {
	memory
	fail func(off, end int64) bool
}

func (b *breaker) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if b.fail(off, off+int64(len(p))) {
		return 0, errBroken
	}
	return b.memory.ReadAt(ctx, p, off)
}
