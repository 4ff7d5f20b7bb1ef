package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
)

// spanOf is where an entry of the archive b lies.
func spanOf(t *testing.T, b []byte, path string) catar.Span {
	t.Helper()
	tr := open(t, b)
	a, err := tr.Find(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return tr.Span(a.ID)
}

// What cannot be read is an error of those who want it, once, and no more.
func TestFailedReads(t *testing.T) {
	b := wide(t, 500)
	broken := true
	var from, to int64
	src := &breaker{memory(b), func(off, end int64) bool { return broken && off < to && end > from }}
	for _, where := range []string{"d/file-0000200", "e9", "e9-dir", "e9-dir/one"} {
		s := spanOf(t, b, where)
		for _, s := range []catar.Span{{Start: s.Start, End: s.Start + 1}, {Start: s.End - 1, End: s.End}} {
			broken, from, to = true, s.Start, s.End
			tr, err := tree.Open(t.Context(), src, int64(len(b)), tree.Options{InFlight: 3})
			if err != nil {
				t.Fatal(err)
			}
			payload := s.Start != spanOf(t, b, where).Start && (where == "e9" || where == "e9-dir/one")
			if _, err := everything(t.Context(), tr); errors.Is(err, errBroken) == payload {
				t.Errorf("%q broken at %d: %v", where, s.Start, err)
			}
			broken = false
			if paths, err := everything(t.Context(), tr); err != nil || len(paths) != tr.Len() {
				t.Errorf("%q mended at %d: %d paths, %v", where, s.Start, len(paths), err)
			}
		}
	}
	broken, from, to = true, int64(len(b))-1, int64(len(b))
	for _, want := range []func(off, n int64){nil, func(off, n int64) {}} {
		if _, err := tree.Open(t.Context(), src, int64(len(b)), tree.Options{Want: want}); !errors.Is(err, errBroken) {
			t.Errorf("opened with %v", err)
		}
	}
}

// Damaged bytes of files, or the table of a directory, do not keep anybody from
// listing and finding what is beside them.
func TestDamage(t *testing.T) {
	m := newMaker(t, flags)
	for i := range 40 {
		m.file(fmt.Sprintf("a%02d", i), 1000+i*100)
	}
	m.dir("dir")
	for i := range 200 {
		m.file(fmt.Sprint("f", 1000+i), 10)
	}
	m.end()
	m.file("z", 100_000)
	b := m.bytes()
	dir := spanOf(t, b, "dir")

	var bad []catar.Span // all but the first bytes of each file, and the table of the directory
	for step, err := range open(t, b).Walk(t.Context(), tree.Root, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if !isDir(step.Attr) {
			s := spanOf(t, b, step.Path)
			bad = append(bad, catar.Span{Start: max(s.Start+512, s.End-500), End: s.End})
		}
	}
	bad = append(bad, catar.Span{Start: dir.End - 1, End: dir.End})
	src := &breaker{memory(b), func(off, end int64) bool {
		for _, s := range bad {
			if off < s.End && end > s.Start {
				return true
			}
		}
		return false
	}}
	for _, want := range []func(off, n int64){nil, func(off, n int64) {}} {
		for _, listed := range []bool{true, false} {
			tr, err := tree.Open(t.Context(), src, int64(len(b)), tree.Options{Want: want})
			if err != nil {
				t.Fatal(err)
			}
			if listed {
				if list, err := tr.Children(t.Context(), tree.Root); err != nil || len(list) != 42 {
					t.Errorf("%d children, %v", len(list), err)
				}
			}
			for _, name := range []string{"a00", "a07", "a39", "z"} {
				if a, err := tr.Lookup(t.Context(), tree.Root, name); err != nil || a.Size < 1000 {
					t.Errorf("listed %v: %q: %+v, %v", listed, name, a, err)
				}
			}
			a, err := tr.Lookup(t.Context(), tree.Root, "dir")
			if err != nil {
				t.Fatalf("listed %v: %v", listed, err)
			}
			if _, err := tr.Children(t.Context(), a.ID); !errors.Is(err, errBroken) {
				t.Errorf("listed %v: a table that cannot be read: %v", listed, err)
			}
			bad = bad[:len(bad)-1]
			if list, err := tr.Children(t.Context(), a.ID); err != nil || len(list) != 200 {
				t.Errorf("listed %v, mended: %d children, %v", listed, len(list), err)
			}
			bad = append(bad, catar.Span{Start: dir.End - 1, End: dir.End})
		}
	}
}

// A failingSource has an error of its own for whatever is read behind a point.
type failingSource struct {
	memory
	behind int64
	err    error
}

func (f failingSource) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= f.behind && off < int64(len(f.memory))-2000 {
		return 0, fmt.Errorf("cache: %w", f.err)
	}
	return f.memory.ReadAt(ctx, p, off)
}

// An error of the source is never taken for an answer: a file system would keep
// it for ever.
func TestErrorsOfTheSource(t *testing.T) {
	m := newMaker(t, flags)
	m.dir("dir")
	m.file("f", 3000)
	m.end()
	m.file("z", 3000)
	b := m.bytes()
	for _, cause := range []error{syscall.ENOENT, fs.ErrNotExist, syscall.ENOTDIR, syscall.EINVAL} {
		tr, err := tree.Open(t.Context(), failingSource{memory(b), 64, cause}, int64(len(b)), tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.Lookup(t.Context(), tree.Root, "dir")
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EINVAL) ||
			errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "cache: "+cause.Error()) {
			t.Errorf("%v: got %v", cause, err)
		}
	}
}

// Whoever finds a file does not wait for its last bytes, and a directory costs
// no more than one round.
func TestLookupWaitsForHead(t *testing.T) {
	m := newMaker(t, flags)
	m.dir("dir")
	m.file("f", 200_000)
	m.end()
	m.file("m", 10_000) // so that no chunk has the tail of one and the head of another
	m.file("z", 500_000)
	m.file("zz", 10_000)
	b := m.bytes()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(bytes.NewReader(b), int64(len(b)))
		o.chunk = 1024
		tr, err := tree.Open(t.Context(), o, o.size, tree.Options{Want: o.Want})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Lookup(t.Context(), tree.Root, "none"); err == nil { // the table is here now
			t.Fatal("found what is not there")
		}
		for name, reads := range map[string]int64{"dir": 2, "z": 1} {
			begin, chunks, before := time.Now(), o.requests(), o.reads.Load()
			if _, err := tr.Lookup(t.Context(), tree.Root, name); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took != o.delay {
				t.Errorf("%s: %v, not one round of %v", name, took, o.delay)
			}
			if n := o.reads.Load() - before; n != reads {
				t.Errorf("%s: waited for %d reads, not %d", name, n, reads)
			}
			if n := o.requests() - chunks; n < 2 {
				t.Errorf("%s: %d chunks: its last bytes were not hinted at", name, n)
			}
		}
	})
}
