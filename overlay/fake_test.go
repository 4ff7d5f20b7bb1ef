package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"caravel/overlay"
)

// A memory is a base: bytes, and what it was asked for.
type memory struct {
	data  []byte
	reads atomic.Int64
	fail  func(off, n int64) error // nil: none fails
}

func (m *memory) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	m.reads.Add(1)
	if m.fail != nil {
		if err := m.fail(off, int64(len(p))); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// A knowing base says where its holes are, and what is local: each other one of
// pieces of a size, and takes hints.
type knowing struct {
	*memory
	piece int64
	wants [][2]int64
}

// newKnowing makes every second piece of the base a hole, which it knows.
func newKnowing(n int, piece int64) *knowing {
	k := &knowing{memory: noise(n), piece: piece}
	for off, size := range k.Holes(0, int64(n)) {
		clear(k.data[off : off+size])
	}
	return k
}

func (k *knowing) Holes(off, n int64) iter.Seq2[int64, int64] { return k.every(off, n, 0) }
func (k *knowing) Local(off, n int64) iter.Seq2[int64, int64] { return k.every(off, n, 1) }
func (k *knowing) Want(off, n int64)                          { k.wants = append(k.wants, [2]int64{off, n}) }

func (k *knowing) every(off, n, which int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for i := off / k.piece; i*k.piece < off+n; i++ {
			from, to := max(i*k.piece, off), min((i+1)*k.piece, off+n, int64(len(k.data)))
			if i%2 == which && from < to && !yield(from, to-from) {
				return
			}
		}
	}
}

// noise is a base of n bytes, none of them zero.
func noise(n int) *memory {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	for i := range data {
		data[i] |= 1
	}
	return &memory{data: data}
}

// open opens the overlay at path, and closes it at the end of the test.
func open(t testing.TB, path string, base overlay.Base, size int64, opt overlay.Options) *overlay.Disk {
	t.Helper()
	d, err := overlay.Open(path, base, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// reopen closes the disk and opens it again.
func reopen(t testing.TB, d *overlay.Disk, path string, base overlay.Base, size int64, opt overlay.Options) *overlay.Disk {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, path, base, size, opt)
}

func temp(t testing.TB) string { return filepath.Join(t.TempDir(), "disk.overlay") }

// content reads the whole disk.
func content(t testing.TB, d *overlay.Disk) []byte {
	t.Helper()
	p := make([]byte, d.Size()+1)
	n, err := d.ReadAt(t.Context(), p, 0)
	if int64(n) != d.Size() || !errors.Is(err, io.EOF) {
		t.Fatalf("%d bytes of %d: %v", n, d.Size(), err)
	}
	return p[:n]
}

// same fails if two contents differ.
func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d of %d is %#x, not %#x", what, i, len(want), got[i], want[i])
		}
	}
	t.Fatalf("%s: %d bytes, not %d", what, len(got), len(want))
}

func write(t testing.TB, d *overlay.Disk, p []byte, off int64) {
	t.Helper()
	if n, err := d.WriteAt(t.Context(), p, off); n != len(p) || err != nil {
		t.Fatalf("%d bytes of %d written at %d: %v", n, len(p), off, err)
	}
}
