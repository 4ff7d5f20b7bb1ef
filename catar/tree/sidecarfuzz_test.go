package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"caravel/catar/tree"
	"caravel/feature"
)

// FuzzSidecar has the sidecar of one archive and another one of the same length:
// the same with a field or two changed. Whatever these are, what ConfirmAll lets
// through is what a walk of the archive gives, and what is answered after a
// contradiction is.
func FuzzSidecar(f *testing.F) {
	files, err := filepath.Glob("testdata/malformed/*.catar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/small.catar", "testdata/tree.default.catar", "testdata/desync/special.catar") {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(100), uint64(0), uint16(0), uint64(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16, field uint64, other uint16, change uint64) {
		if len(b) < 128 || len(b) > 1<<18 {
			return
		}
		s := tree.NewSkimmer()
		s.Write(b)
		file, err := s.Sidecar([32]byte{})
		if err != nil {
			if n, refused := decoded(b); refused == nil && n > 0 && !bytes.Contains(b, desync) {
				t.Fatalf("no sidecar: %v", err)
			}
			return
		}
		sidecar := readSidecar(t, file, len(b))
		truth := bytes.Clone(b)
		for at, change := range map[uint16]uint64{at: field, other: change} {
			p := truth[int(at)%(len(b)-8):]
			binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^change)
		}
		tr := openWith(t, sidecar, memory(truth), tree.Options{InFlight: 2})
		err = tr.ConfirmAll(t.Context())
		walked, wrong := tree.Open(t.Context(), memory(truth), int64(len(truth)), tree.Options{})
		if wrong == nil {
			_, wrong = everything(t.Context(), walked)
		}
		switch {
		case err == nil && wrong == nil:
			sameTree(t, tr, walked)
			if tr.Len() != walked.Len() {
				t.Fatalf("%d entries, not %d", tr.Len(), walked.Len())
			}
		case err == nil && walked != nil && walked.Flags() == feature.Desync: // whose tables may be another's
		case err == nil:
			t.Fatalf("confirmed, which a walk refuses: %v", wrong)
		case !errors.Is(err, tree.ErrContradicted):
			t.Fatal(err)
		case wrong == nil:
			believedIsTrue(t, tr, truth)
		}
	})
}

// FuzzReadSidecar reads anything at all: as it is, with a digest that is right,
// or packed as the body of a sidecar. What is accepted is a tree, and no larger
// one than the archive could be.
func FuzzReadSidecar(f *testing.F) {
	for _, name := range []string{"small.catar", "tree.default.catar", "desync/special.catar", "malformed/depth-63.catar"} {
		b := unpack(f, name)
		file := skimmed(f, b)
		f.Add(file, uint32(len(b)), uint8(0))
		f.Add(file[headSize:], uint32(len(b)), uint8(1))
		f.Add(unsealed(f, file), uint32(len(b)), uint8(2))
	}
	f.Fuzz(func(t *testing.T, file []byte, size uint32, way uint8) {
		switch way % 3 {
		case 1:
			file = sealed(file, int(size))
		case 2:
			file = sealed(compressed(file), int(size))
		}
		s, err := tree.ReadSidecar(bytes.NewReader(file), [32]byte{}, int64(size))
		if err != nil {
			return
		}
		if most := int(size)/80 + 2; s.Len() > most {
			t.Fatalf("%d entries in an archive of %d bytes", s.Len(), size)
		}
		tr := openWith(t, s, unread{t}, tree.Options{})
		n := 0
		for step, err := range tr.Walk(t.Context(), tree.Root, -1) {
			if err != nil {
				t.Fatal(err)
			}
			if a, err := tr.Find(t.Context(), step.Path); err != nil || a != step.Attr {
				t.Fatalf("%q: %+v, %v", step.Path, a, err)
			}
			n++
		}
		if n != tr.Len() || tr.Span(tree.Root).End != int64(size) {
			t.Fatalf("%d entries, %d in the walk; the root ends at %d of %d", tr.Len(), n, tr.Span(tree.Root).End, size)
		}
		inside(t, tr)
	})
}
