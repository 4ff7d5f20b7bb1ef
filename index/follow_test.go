package index_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"caravel/index"
)

// followed is an index of several chunks.
const followed = "mixed-512K.default.caibx"

// A row is told of as soon as its last byte is here.
func TestFollow(t *testing.T) {
	file := load(t, followed)
	const head, row = 64, 40
	in, out := io.Pipe()
	told := make(chan index.Chunk)
	type end struct {
		x   *index.Index
		err error
	}
	done := make(chan end)
	go func() {
		x, err := index.Follow(in, func(_ *index.Index, c index.Chunk) error {
			told <- c
			return nil
		})
		done <- end{x, err}
	}()
	want, err := index.Read(bytes.NewReader(file), -1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Len() {
		from, to := head+i*row, head+(i+1)*row
		if i == 0 {
			from = 0
		}
		if _, err := out.Write(file[from:to]); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != want.Chunk(i) {
			t.Errorf("told of %v, want %v", got, want.Chunk(i))
		}
	}
	go func() {
		out.Write(file[head+want.Len()*row:])
		out.Close()
	}()
	if got := <-done; got.err != nil || !bytes.Equal(written(t, got.x), file) {
		t.Errorf("error %v, or another index", got.err)
	}
}

func TestFollowIsEnded(t *testing.T) {
	enough := errors.New("enough")
	_, err := index.Follow(bytes.NewReader(load(t, followed)), func(*index.Index, index.Chunk) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}
