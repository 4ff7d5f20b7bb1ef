//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"caravel/fusefs"
)

// pattern is a file of any size whose every 8 bytes say where they are.
type pattern struct {
	size  int64
	reads atomic.Int64
	// before, if set, is asked before each read; an error is the read's.
	before func(ctx context.Context, off, n int64) error
}

func (p *pattern) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	p.reads.Add(1)
	if p.before != nil {
		if err := p.before(ctx, off, int64(len(b))); err != nil {
			return 0, err
		}
	}
	n := int(max(0, min(int64(len(b)), p.size-off)))
	fill(b[:n], off)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func fill(b []byte, off int64) {
	var word [8]byte
	for i := 0; i < len(b); {
		at := off + int64(i)
		binary.LittleEndian.PutUint64(word[:], uint64(at>>3)*0x9e3779b97f4a7c15)
		i += copy(b[i:], word[at&7:])
	}
}

func want(off int64, n int) []byte {
	b := make([]byte, n)
	fill(b, off)
	return b
}

// canMount skips t, and says why, where nothing can be mounted.
func canMount(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("%s: no /dev/fuse", t.Name())
	}
	if _, err := exec.LookPath("fusermount3"); err != nil && os.Geteuid() != 0 {
		t.Skipf("%s: neither root nor fusermount3", t.Name())
	}
}

// need skips t, and says why, where a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s: no %s", t.Name(), p)
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s: not root", t.Name())
	}
}

// mounted shows f for the length of t and returns the mount and f's path.
func mounted(t testing.TB, f fusefs.File, opt fusefs.Options) (*fusefs.Mount, string) {
	t.Helper()
	canMount(t)
	if f.Name == "" {
		f.Name = "disk"
	}
	m, err := fusefs.MountFile(t.TempDir(), f, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return m, filepath.Join(m.Dir, f.Name)
}

func patternFile(size int64) (*pattern, fusefs.File) {
	p := &pattern{size: size}
	return p, fusefs.File{Size: size, Reader: p}
}

// notes keeps what is logged.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) logger() *slog.Logger { return slog.New(slog.NewTextHandler(n, nil)) }

func (n *notes) count(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Count(n.b.Bytes(), []byte(text))
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func pread(path string, off int64, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	got, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:got], err
}

func run(t testing.TB, name string, arg ...string) string {
	t.Helper()
	out, err := exec.Command(name, arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arg, err, out)
	}
	return string(out)
}
