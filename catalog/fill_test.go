package catalog_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"caravel/catalog"
	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/open"
)

// TestFillGoesOn: the rest of an index comes however long the server is away, as
// long as it is the same one.
func TestFillGoesOn(t *testing.T) {
	dir := t.TempDir()
	want, file := indexOf(t, 120_000, 10)
	path := filepath.Join(dir, "a.caibx")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	var away atomic.Int64 // answers
	o, err := origin.Start(dir, origin.Options{Faults: func(int64, string) origin.Fault {
		if away.Add(-1) < 0 {
			return origin.Fault{}
		}
		return origin.Fault{Kind: origin.Answer, Status: 503}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	opt := catalog.Options{Partial: true, Open: open.Options{Timeout: time.Nanosecond}}
	begin := func() *catalog.Image {
		t.Helper()
		away.Store(0)
		img, err := catalog.Open(t.Context(), o.URL()+"/a.caibx", opt)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := begin()
	away.Store(2)
	if x, err := img.Fill(t.Context()); err != nil || x.Sum() != want.Sum() || away.Load() >= 0 {
		t.Errorf("error %v", err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}

	img = begin()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	away.Store(math.MaxInt64)
	cancel(stop)
	if _, err := img.Fill(ctx); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	away.Store(0)
	_, file = indexOf(t, 120_000, 11)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := img.Fill(t.Context()); !errors.Is(err, store.ErrChanged) || !strings.HasPrefix(err.Error(), o.URL()+"/a.caibx: ") {
		t.Errorf("another index: got %v", err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
}
