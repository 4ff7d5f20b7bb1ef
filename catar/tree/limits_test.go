package tree

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// What grows too long while it is compressed is given up at once, and not kept
// until the end.
func TestPackerGivesUp(t *testing.T) {
	p, err := newPacker(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	noise, b := rand.NewChaCha8([32]byte{}), make([]byte, 10_000)
	for n := 0; err == nil; n += len(b) {
		if n > 4<<20 {
			t.Fatal("never")
		}
		noise.Read(b)
		_, err = p.Write(b)
	}
	if !strings.Contains(err.Error(), "tree: sidecar: more than 1048576 bytes") || p.body.Cap() != 0 {
		t.Errorf("%d bytes are kept: %v", p.body.Cap(), err)
	}
}

// onDisk is an archive in a file.
type onDisk struct{ *os.File }

func (d onDisk) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return d.File.ReadAt(p, off)
}

// A walk that comes upon too many attributes keeps none of them any more, and
// goes on.
func TestTooDifferent(t *testing.T) {
	f, err := os.Open("testdata/tree.default.catar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{1, 200, maxRecords} {
		tr, err := Open(t.Context(), onDisk{f}, st.Size(), Options{Record: true})
		if err != nil {
			t.Fatal(err)
		}
		tr.records.left = left
		if err := tr.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = tr.Sidecar([32]byte{})
		if few := left < maxRecords; errors.Is(err, errTooDifferent) != few || !few && err != nil || few && tr.records.all != nil {
			t.Errorf("%d bytes: %d records are kept, %v", left, len(tr.records.all), err)
		}
	}
}
