package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/index"
)

func TestReader(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	for _, part := range [][2]int64{{0, 0}, {5, 100}, {4000, 20_000}, {0, x.Size()}} {
		r, err := image.NewReader(t.Context(), x, s, part[0], part[1], image.StreamOptions{InFlight: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, data[part[0]:part[0]+part[1]]); err != nil {
			t.Errorf("%v: %v", part, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) && err != io.EOF {
			t.Errorf("%v: a closed reader: %v", part, err)
		}
	}
}

// TestReaderMixed reads a little and has the rest written.
func TestReaderMixed(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	r, err := image.NewReader(t.Context(), x, s, 0, x.Size(), image.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 5000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	if n, err := r.WriteTo(&rest); n != int64(rest.Len()) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if !bytes.Equal(append(head, rest.Bytes()...), data) {
		t.Error("not the right bytes")
	}
}

// TestReaderLeavesNothing closes readers that were not read to their end.
func TestReaderLeavesNothing(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	before := runtime.NumGoroutine()
	for _, read := range []int{0, 1, 10_000} {
		r, err := image.NewReader(t.Context(), x, s, 0, x.Size(), image.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, read)); err != nil {
			t.Error(err)
		}
		r.Close()
		r.Close()
	}
	// One that has said that it is done may still be counted for a moment.
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestReaderCancelled(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := image.NewReader(ctx, x, s, 0, x.Size(), image.StreamOptions{InFlight: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel(errShelf)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, errShelf) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errShelf) {
		t.Errorf("then %v", err)
	}
}

func TestMakeFlags(t *testing.T) {
	unix := (feature.Unix | feature.SHA512_256).Normal()
	for _, tt := range []struct {
		opt  image.MakeOptions
		want feature.Flags
		err  string // "": none
	}{
		{image.MakeOptions{}, feature.Blob(chunker.SHA512_256), ""},
		{image.MakeOptions{Digest: chunker.SHA256}, feature.Blob(chunker.SHA256), ""},
		{image.MakeOptions{Flags: unix}, unix, ""},
		{image.MakeOptions{Flags: unix, Digest: chunker.SHA256}, 0, "name sha512-256, not sha256"},
		{image.MakeOptions{Flags: feature.SHA512_256 | feature.UIDs}, 0, "not normalized"},
	} {
		made, err := image.Make(t.Context(), strings.NewReader("some bytes"), nil, tt.opt)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%+v: got %v", tt.opt, err)
			}
		case err != nil || made.Index.Flags != tt.want:
			t.Errorf("%+v: got %#x, %v", tt.opt, made.Index.Flags, err)
		}
	}
}

// A part of a table has some rows, and an error for the others.
type partOfTable struct {
	*index.Index
	from, to int // the rows that are here
}

var errRow = errors.New("row does not come")

func (p partOfTable) Row(_ context.Context, i int) (index.Chunk, error) {
	if i < p.from || i >= p.to {
		return index.Chunk{}, errRow
	}
	return p.Index.Chunk(i), nil
}

// Of an index the rows of the range are enough; one that does not come is an error
// behind the bytes before it.
func TestReaderOfAPart(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	part := partOfTable{x, 5, 20}
	start, end := x.Chunk(5).Start, x.Chunk(20).Start
	for _, tt := range []struct{ off, n, good int64 }{
		{start, end - start, end - start},
		{start + 1, 1, 1},
		{start + 1, end - start, end - start - 1},
		{start - 1, 10, 0},
		{end, 1, 0},
		{end, 0, 0},
	} {
		var out bytes.Buffer
		err := image.Stream(t.Context(), part, s, &out, tt.off, tt.n, image.StreamOptions{InFlight: 3})
		if whole := tt.good == tt.n; whole != (err == nil) || !whole && !errors.Is(err, errRow) {
			t.Errorf("%d bytes at %d: %v", tt.n, tt.off, err)
		}
		if !bytes.Equal(out.Bytes(), data[tt.off:tt.off+tt.good]) {
			t.Errorf("%d bytes at %d: %d come, want %d", tt.n, tt.off, out.Len(), tt.good)
		}
	}
}
