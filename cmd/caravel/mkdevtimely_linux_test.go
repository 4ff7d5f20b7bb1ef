package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"caravel/nbd"
)

// hungDisk waits for ever for whatever is asked of it.
type hungDisk struct{}

func (hungDisk) ReadAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

func (h hungDisk) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return h.ReadAt(ctx, p, off)
}

func (h hungDisk) Zero(ctx context.Context, off, _ int64, _ bool) error {
	_, err := h.ReadAt(ctx, nil, off)
	return err
}

func (h hungDisk) Discard(ctx context.Context, off, n int64) error { return h.Zero(ctx, off, n, false) }

func (hungDisk) Flush(context.Context) error { return nil }

// TestTimely answers in time whatever hangs, and makes no disk writable.
func TestTimely(t *testing.T) {
	if _, ok := timely(memoryDisk("x"), time.Second).(nbd.Writer); ok {
		t.Error("a read-only disk can be written to")
	}
	disk := timely(hungDisk{}, time.Second)
	writer, ok := disk.(nbd.Writer)
	if !ok {
		t.Fatal("a writable disk cannot be written to")
	}
	for name, ask := range map[string]func(context.Context) error{
		"write":   func(ctx context.Context) error { _, err := writer.WriteAt(ctx, nil, 0); return err },
		"zero":    func(ctx context.Context) error { return writer.Zero(ctx, 0, 1, false) },
		"discard": func(ctx context.Context) error { return writer.Discard(ctx, 0, 1) },
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			err := ask(t.Context())
			if took := time.Since(begun); err == nil || err.Error() != "no answer in 1s" || took != time.Second {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		})
	}
}
