package tree_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// A sparse file has holes where zeros are written.
type sparse struct {
	*os.File
	size int64
}

var zeros [64 << 10]byte

func (s *sparse) Write(p []byte) (int, error) {
	off := s.size
	s.size += int64(len(p))
	if len(p) <= len(zeros) && bytes.Equal(p, zeros[:len(p)]) {
		return len(p), nil
	}
	return s.WriteAt(p, off)
}

// distribution is an archive of the tree of the Go distribution, with zeros for
// the bytes of its files.
func distribution(t testing.TB) (f *os.File, size int64) {
	//lint:ignore SA1019 a test may use whichever tree there is
	root := runtime.GOROOT()
	if _, err := os.Stat(filepath.Join(root, "src")); err != nil {
		t.Skipf("no Go distribution: %v", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "go.catar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	out := &sparse{File: file}
	w := bufio.NewWriterSize(out, 4096)
	e, err := catar.NewEncoder(w, (feature.All | feature.SHA512_256 | feature.ExcludeNoDump | feature.ExcludeFile).Normal())
	if err != nil {
		t.Fatal(err)
	}
	if err := pack(e, "", root); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(out.size); err != nil {
		t.Fatal(err)
	}
	return file, out.size
}

func pack(e *catar.Encoder, name, dir string) error {
	if err := e.Begin(name, &catar.Entry{Mode: syscall.S_IFDIR | 0o755, MTime: 1e18}); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, child := range list {
		info, err := child.Info()
		switch {
		case err != nil:
			return err
		case info.IsDir():
			err = pack(e, child.Name(), filepath.Join(dir, child.Name()))
		case info.Mode().IsRegular():
			err = packFile(e, child.Name(), info.Size())
		}
		if err != nil {
			return err
		}
	}
	return e.End()
}

func packFile(e *catar.Encoder, name string, size int64) error {
	if err := e.Begin(name, &catar.Entry{Mode: syscall.S_IFREG | 0o644, MTime: 1e18, Size: size}); err != nil {
		return err
	}
	for size > 0 {
		n, err := e.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// The walk of a whole tree takes about as many rounds as the tree has levels,
// and fetches the chunks that have metadata, and no others.
func TestWalkRounds(t *testing.T) {
	file, size := distribution(t)
	needed := metadataChunks(t, file, size)
	tests := []struct {
		name     string
		inFlight int
		want     bool
		rounds   int
	}{
		{"64 and hints", 64, true, 20},
		{"64", 64, false, 48},
		{"all at once", 1 << 16, false, 20},
		{"one by one", 1, false, 1 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(file, size)
				opt := tree.Options{InFlight: tt.inFlight}
				if tt.want {
					opt.Want = o.Want
				}
				begin := time.Now()
				tr, err := tree.Open(t.Context(), o, size, opt)
				if err != nil {
					t.Fatal(err)
				}
				first := time.Duration(0)
				for step, err := range tr.Walk(t.Context(), tree.Root, -1) {
					if err != nil {
						t.Fatal(err)
					}
					if step.Path != "" && first == 0 {
						first = time.Since(begin)
					}
				}
				rounds := int(time.Since(begin) / o.delay)
				t.Logf("%d entries, %d MB: %d rounds (first name after %d), %d requests of %d that have metadata, %d chunks; %d reads, %d at a time",
					tr.Len(), size/1e6, rounds, first/o.delay, o.requests(), needed, (size+o.chunk-1)/o.chunk, o.reads.Load(), o.most.Load())
				if rounds > tt.rounds {
					t.Errorf("%d rounds, want at most %d", rounds, tt.rounds)
				}
				if o.requests() > needed+needed/50 {
					t.Errorf("%d requests; %d chunks have metadata", o.requests(), needed)
				}
				if most := o.most.Load(); most > int64(tt.inFlight) && tt.inFlight > 1 { // Open reads two at a time
					t.Errorf("%d reads at one time", most)
				}
			})
		})
	}
}

// metadataChunks counts the chunks that hold something else than payload.
func metadataChunks(t *testing.T, file io.ReaderAt, size int64) int {
	const chunk = 64 << 10
	has := make(map[int64]bool)
	touch := func(off, end int64) {
		for c := off / chunk; c <= (end-1)/chunk; c++ {
			has[c] = true
		}
	}
	dec := catar.NewDecoder(io.NewSectionReader(file, 0, size), catar.DecoderOptions{})
	end := int64(0) // of the payload before
	for {
		n, err := dec.Next()
		if err == io.EOF {
			touch(end, size)
			return len(has)
		}
		if err != nil {
			t.Fatal(err)
		}
		touch(end, n.Body)
		if end = n.Body; n.IsRegular() {
			end += n.Size
		}
	}
}

// A cold lookup takes a round for each level, and two more at most.
func TestLookupRounds(t *testing.T) {
	file, size := distribution(t)
	for _, name := range []string{"VERSION", "src/fmt/print.go", "src/cmd/compile/internal/ssa/rewrite.go", "src/net/http/server.go",
		"pkg/include", "src/cmd/vendor/golang.org/x/tools/LICENSE", "test/fixedbugs/issue9862.go"} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(file, size)
			begin := time.Now()
			tr, err := tree.Open(t.Context(), o, size, tree.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tr.Find(t.Context(), name); err != nil {
				t.Skipf("not in this distribution: %v", err)
			}
			rounds, levels := int(time.Since(begin)/o.delay), 1+strings.Count(name, "/")
			t.Logf("%s: %d rounds, %d requests", name, rounds, o.requests())
			if rounds > levels+2 {
				t.Errorf("%s: %d rounds for %d levels", name, rounds, levels)
			}
			if o.requests() > 3*levels+3 {
				t.Errorf("%s: %d requests for %d levels", name, o.requests(), levels)
			}
		})
	}
}

// Chunks as small as can be make every guess cross them.
func TestLookupRoundsApart(t *testing.T) {
	t.Run("hints", func(t *testing.T) { lookUpApart(t, true) })
	t.Run("no hints", func(t *testing.T) { lookUpApart(t, false) })
}

func lookUpApart(t *testing.T, hints bool) {
	b := deep(t, 5, 70_000)
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(bytes.NewReader(b), int64(len(b)))
		o.chunk = 2048
		var opt tree.Options
		if hints {
			opt.Want = o.Want
		}
		begin := time.Now()
		tr, err := tree.Open(t.Context(), o, o.size, opt)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != o.delay {
			t.Errorf("opened after %v", took)
		}
		for i, name := range strings.Split("d/d/d/d/d/b", "/") {
			if _, err := tr.Find(t.Context(), path.Join(strings.Repeat("d/", i), name)); err != nil {
				t.Fatal(err)
			}
			if rounds := int(time.Since(begin) / o.delay); rounds > 2+i {
				t.Errorf("%d rounds for level %d", rounds, i+1)
			}
		}
	})
}

// A listing takes one round once its directory is known.
func TestChildrenRounds(t *testing.T) {
	m := newMaker(t, flags)
	for i := range 30 {
		m.file(fmt.Sprintf("f%02d", i), 100_000)
	}
	b := m.bytes()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(bytes.NewReader(b), int64(len(b)))
		begin := time.Now()
		tr, err := tree.Open(t.Context(), o, o.size, tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		list, err := tr.Children(t.Context(), tree.Root)
		if err != nil || len(list) != 30 {
			t.Fatalf("%d children, %v", len(list), err)
		}
		if rounds := int(time.Since(begin) / o.delay); rounds != 2 {
			t.Errorf("%d rounds", rounds)
		}
	})
}

// A walk that ends early, because its reader has seen enough or because it is
// cancelled, leaves nothing running behind.
func TestWalkEnds(t *testing.T) {
	b := wide(t, 2000)
	synctest.Test(t, func(t *testing.T) {
		for n := range 20 {
			o := newOrigin(bytes.NewReader(b), int64(len(b)))
			o.chunk = 4096
			tr, err := tree.Open(t.Context(), o, o.size, tree.Options{InFlight: 5, Want: o.Want})
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range tr.Walk(t.Context(), tree.Root, -1) {
				if err != nil {
					t.Fatal(err)
				}
				if tr.Len() > n*n {
					break
				}
			}
			if now := o.now.Load(); now != 0 {
				t.Fatalf("%d reads after a walk that was left", now)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(n)*7*time.Millisecond, errBroken)
			last := error(nil)
			for _, err := range tr.Walk(ctx, tree.Root, -1) {
				if last != nil {
					t.Fatal("a step behind an error")
				}
				last = err
			}
			if (ctx.Err() != nil) != errors.Is(last, errBroken) {
				t.Fatalf("%v, with a context that is %v", last, ctx.Err())
			}
			cancel()
			if now := o.now.Load(); now != 0 {
				t.Fatalf("%d reads after a walk that was cancelled", now)
			}
		}
	})
}
