//go:build linux

package fusefs_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/tree"
	"caravel/fusefs"
)

// runs are holes by their offsets and lengths.
type runs [][2]int64

func (r runs) holes(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for _, h := range r {
			if h[0] < off+n && h[0]+h[1] > off && !yield(h[0], h[1]) {
				return
			}
		}
	}
}

// TestHoles finds the holes of files where their archive has them, as in a file on disk.
func TestHoles(t *testing.T) {
	const kib, size = 1 << 10, 4 << 20
	for _, holes := range []runs{
		nil,
		{{0, size}},
		{{0, 64 * kib}, {1 << 20, 512 * kib}},
		{{4 * kib, 4 * kib}, {3 << 20, 1 << 20}},
		{{1 << 20, 1 << 20}, {2 << 20, 4 * kib}}, // told of as two
	} {
		tr := newFakeTree(best)
		tr.file(tree.Root, "before", 1<<20)
		id := tr.file(tree.Root, "file", size)
		off, _ := tr.Payload(id)
		inArchive := runs{{0, off - 4*kib}} // the rest of another's
		for _, h := range holes {
			inArchive = append(inArchive, [2]int64{off + h[0], h[1]})
		}
		inArchive = append(inArchive, [2]int64{off + size, 1 << 20})
		m := mountedTree(t, tr, fusefs.Options{Holes: inArchive.holes})
		_, one := patternFile(size)
		one.Name = "file"
		disk, _ := mounted(t, one, fusefs.Options{Holes: holes.holes})

		same := sparseFile(t, size, holes)
		for _, dir := range []string{m.Dir, disk.Dir} {
			f, err := os.Open(dir + "/file")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var got, want unix.Stat_t
			if err := errors.Join(unix.Fstat(int(f.Fd()), &got), unix.Fstat(int(same.Fd()), &want)); err != nil || got.Blocks != want.Blocks {
				t.Errorf("%v: %d blocks, want %d, %v", holes, got.Blocks, want.Blocks, err)
			}
			for at := int64(0); at <= size; at += 2 * kib {
				for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
					a, errA := unix.Seek(int(f.Fd()), at, whence)
					b, errB := unix.Seek(int(same.Fd()), at, whence)
					if a != b || errA != errB {
						t.Fatalf("%v: from %d, %d: %d, %v; want %d, %v", holes, at, whence, a, errA, b, errB)
					}
				}
			}
			if at, err := f.Seek(-10, io.SeekEnd); at != size-10 || err != nil {
				t.Errorf("from the end: %d, %v", at, err)
			}
		}
	}
}

// sparseFile is a file on disk with data where no holes are.
func sparseFile(t *testing.T, size int64, holes runs) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	for _, h := range holes {
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, h[0], h[1]); err != nil {
			t.Skip(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestHolesOfALie says nothing of a file that is not where the tree has it.
func TestHolesOfALie(t *testing.T) {
	tr := newFakeTree(best)
	tr.file(tree.Root, "file", 1<<20)
	tr.before = func(_ context.Context, op string, _ tree.ID, _ string) error {
		if op == "confirm" {
			return errors.New("it is elsewhere")
		}
		return nil
	}
	m := mountedTree(t, tr, fusefs.Options{Holes: runs{{0, 1 << 30}}.holes, Passthrough: -1})
	f, err := os.Open(m.Dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != unix.EIO {
		t.Errorf("got %v", err)
	}
}
