package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/memo"
)

// TestRecallOfNothing checks that a directory that may not be opened is an error, with a cache,
// too. That it is not there stands for that it may not.
func TestRecallOfNothing(t *testing.T) {
	dir := t.TempDir()
	p := &packing{ctx: t.Context(), dir: filepath.Join(dir, "none"), flags: (&packOptions{}).archive()}
	m, err := memo.Open(filepath.Join(dir, "x.memo"), memo.Key{Params: chunker.DefaultParams()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, err = range m.Parts(t.Context(), p, p.payloads, true) {
	}
	if want := errors.ErrUnsupported; !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
