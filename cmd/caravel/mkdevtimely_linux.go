package main

import (
	"context"
	"fmt"
	"time"

	"caravel/nbd"
)

// A timelyWriter fails a change that takes longer than limit. One of a part of a block
// waits for the image, as a read does, and for those before it that do.
type timelyWriter struct {
	nbd.Writer
	nbd.Reader
	limit time.Duration
}

// timely bounds what r, if it can be written to, takes for a change; 0: it does not.
// Reads are bounded where they wait, as most need not.
func timely(r nbd.Reader, limit time.Duration) nbd.Reader {
	if w, ok := r.(nbd.Writer); ok && limit > 0 {
		return timelyWriter{w, r, limit}
	}
	return r
}

func (w timelyWriter) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, cancel := w.bound(ctx)
	defer cancel()
	return w.Writer.WriteAt(ctx, p, off)
}

func (w timelyWriter) Zero(ctx context.Context, off, n int64, reserve bool) error {
	ctx, cancel := w.bound(ctx)
	defer cancel()
	return w.Writer.Zero(ctx, off, n, reserve)
}

func (w timelyWriter) Discard(ctx context.Context, off, n int64) error {
	ctx, cancel := w.bound(ctx)
	defer cancel()
	return w.Writer.Discard(ctx, off, n)
}

func (w timelyWriter) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, w.limit, fmt.Errorf("no answer in %v", w.limit))
}
