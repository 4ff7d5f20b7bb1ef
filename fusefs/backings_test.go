//go:build linux

package fusefs

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A fakeRegistry is the kernel's list of files.
type fakeRegistry struct {
	last  int32
	held  map[int32]bool
	asked int
	err   syscall.Errno
}

func (r *fakeRegistry) RegisterBackingFd(m *fuse.BackingMap) (int32, syscall.Errno) {
	r.asked++
	if r.err != 0 {
		return 0, r.err
	}
	r.last++
	r.held[r.last] = true
	return r.last, 0
}

func (r *fakeRegistry) UnregisterBackingFd(id int32) syscall.Errno {
	if !r.held[id] {
		return unix.ENOENT
	}
	delete(r.held, id)
	return 0
}

func testBackings(t *testing.T) (*backings, *fakeRegistry, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	if fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		t.Skipf("%s: no O_DIRECT in the temporary directory", t.Name())
	} else {
		unix.Close(fd)
	}
	r := &fakeRegistry{held: map[int32]bool{}}
	b := newBackings(1, slog.New(slog.DiscardHandler))
	b.kernel = r
	return b, r, f
}

func (r *fakeRegistry) ids() []int32 { return slices.Sorted(maps.Keys(r.held)) }

func TestBackingsCount(t *testing.T) {
	b, r, f := testBackings(t)
	open := func(node uint64, file *os.File) (id int32) {
		var out fuse.OpenOut
		if !b.shared(node, &out) {
			b.open(node, 4096, file, &out)
		}
		if (out.OpenFlags == fuse.FOPEN_PASSTHROUGH) != (out.BackingID != 0) {
			t.Errorf("flags %#x, ID %d", out.OpenFlags, out.BackingID)
		}
		return out.BackingID
	}
	steps := []struct {
		node uint64
		file *os.File // nil: none
		end  bool     // it is closed, not opened
		id   int32
		held []int32
	}{
		{node: 7, file: f, id: 1, held: []int32{1}},
		{node: 7, id: 1, held: []int32{1}},
		{node: 8, held: []int32{1}},
		{node: 8, file: f, held: []int32{1}},
		{node: 9, file: f, id: 2, held: []int32{1, 2}},
		{node: 7, end: true, held: []int32{1, 2}},
		{node: 7, file: f, id: 1, held: []int32{1, 2}},
		{node: 7, end: true, held: []int32{1, 2}},
		{node: 8, end: true, held: []int32{1, 2}},
		{node: 8, file: f, held: []int32{1, 2}},
		{node: 7, end: true, held: []int32{2}},
		{node: 7, end: true, held: []int32{2}}, // never opened
		{node: 7, file: f, id: 3, held: []int32{2, 3}},
		{node: 8, end: true, held: []int32{2, 3}},
		{node: 8, end: true, held: []int32{2, 3}},
		{node: 8, file: f, id: 4, held: []int32{2, 3, 4}},
		{node: 9, end: true, held: []int32{3, 4}},
		{node: 8, end: true, held: []int32{3}},
		{node: 7, end: true},
	}
	for i, s := range steps {
		if s.end {
			b.release(s.node)
		} else if id := open(s.node, s.file); id != s.id {
			t.Errorf("step %d: ID %d, want %d", i, id, s.id)
		}
		if got := r.ids(); !slices.Equal(got, s.held) {
			t.Errorf("step %d: the kernel has %v, want %v", i, got, s.held)
		}
	}
	if len(b.nodes) != 0 {
		t.Errorf("%d nodes kept", len(b.nodes))
	}
}

// Where the kernel does not let us, it is not asked again; where it does not
// like one file, it is asked for the next.
func TestBackingsRefused(t *testing.T) {
	for err, want := range map[syscall.Errno]int{unix.EPERM: 1, unix.ENOTTY: 1, unix.ELOOP: 3, unix.EMFILE: 3} {
		b, r, f := testBackings(t)
		b.open(7, 4096, f, new(fuse.OpenOut)) // before
		r.asked, r.err = 0, err
		for node := range uint64(3) {
			var out fuse.OpenOut
			b.open(node, 4096, f, &out)
			if out.BackingID != 0 || out.OpenFlags != 0 {
				t.Errorf("%v: %+v", err, out)
			}
			b.release(node)
		}
		if b.release(7); len(r.held) != 0 {
			t.Errorf("%v: the kernel still has %v", err, r.ids())
		}
		if r.asked != want {
			t.Errorf("%v: asked %d times, want %d", err, r.asked, want)
		}
	}
}
