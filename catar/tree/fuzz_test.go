package tree_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
)

// A counter counts the bytes that are read of an archive.
type counter struct {
	memory
	bytes, reads atomic.Int64
}

func (c *counter) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	c.reads.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.memory.ReadAt(ctx, p, off)
}

// desync is how an archive with its flags has them.
var desync = binary.LittleEndian.AppendUint64(nil, uint64(feature.Desync))

// FuzzTree reads an archive in every way. Whatever it is, there are no more
// entries, reads and bytes than its length allows; and what the decoder accepts
// is accepted here, and nothing else. (desync's archives may go on behind their
// root, which only the decoder sees.)
func FuzzTree(f *testing.F) {
	files, err := filepath.Glob("testdata/malformed/*.catar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/small.catar", "testdata/tree.default.catar") {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "a", uint16(100), uint64(0), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, name string, at uint16, field uint64, way uint8) {
		if way&8 != 0 && len(b) > 8 { // spoil one field of what may have been good
			binary.LittleEndian.PutUint64(b[int(at)%(len(b)-8):], field)
		}
		src := &counter{memory: memory(b)}
		opt := tree.Options{InFlight: 1 + int(way%4)}
		if way&16 != 0 {
			opt.Want = func(off, n int64) {
				if off < 0 || n <= 0 || n > int64(len(b))-off {
					t.Errorf("told of %d bytes at %d of %d", n, off, len(b))
				}
			}
		}
		tr, err := tree.Open(t.Context(), src, int64(len(b)), opt)
		if err != nil {
			if n, refused := decoded(b); refused == nil && n > 0 && !bytes.Contains(b, desync) {
				t.Fatalf("%v, the decoder accepts it", err)
			}
			return
		}
		if way&4 != 0 {
			_, _ = tr.Lookup(t.Context(), tree.Root, name)
			_, _ = tr.Find(t.Context(), "a/"+name)
		}
		paths, err := everything(t.Context(), tr)
		if most := len(b)/80 + 2; tr.Len() > most {
			t.Errorf("%d entries in %d bytes", tr.Len(), len(b))
		}
		// Each node costs a read of its head and one of its tail, again if the
		// guess was too small, and once more for Entry; twice if a walk fails
		// ahead and is tried again.
		if reads, most := src.reads.Load(), int64(len(b)/18+4)*12; reads > most {
			t.Errorf("%d reads of %d bytes", reads, len(b))
		}
		if read, most := src.bytes.Load(), int64(len(b)+4096)*40; read > most {
			t.Errorf("%d bytes read of %d", read, len(b))
		}
		want, refused := decoded(b)
		if (err == nil) != (refused == nil) && tr.Flags() != feature.Desync {
			t.Fatalf("%v, the decoder says %v", err, refused)
		}
		if err != nil {
			return
		}
		if refused == nil && (len(paths) != want || tr.Len() != want) {
			t.Fatalf("%d paths, %d entries, the decoder has %d", len(paths), tr.Len(), want)
		}
		for _, p := range paths {
			if a, err := tr.Find(t.Context(), p); err != nil || a != tr.Attr(a.ID) {
				t.Fatalf("%q: %+v, %v", p, a, err)
			}
		}
		inside(t, tr)
	})
}

// decoded is how many entries the decoder finds.
func decoded(b []byte) (n int, err error) {
	dec := catar.NewDecoder(bytes.NewReader(b), catar.DecoderOptions{})
	for {
		if _, err := dec.Next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

// inside makes sure that every entry lies in its directory, behind those before
// it.
func inside(t *testing.T, tr *tree.Tree) {
	for id := tree.Root; int(id) <= tr.Len(); id++ {
		if !isDir(tr.Attr(id)) {
			continue
		}
		list, err := tr.Children(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s := tr.Span(id)
		at := s.Start
		for _, c := range list {
			this := tr.Span(c.ID)
			if this.Start <= at || this.End > s.End || this.End-this.Start >= s.End-s.Start || tr.Parent(c.ID) != id {
				t.Fatalf("%q at %v in %v, behind %d", c.Name, this, s, at)
			}
			at = this.End
		}
	}
}

func isDir(a tree.Attr) bool {
	n := catar.Entry{Mode: a.Mode}
	return n.IsDir()
}
