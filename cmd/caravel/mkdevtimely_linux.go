package main

import (
	"context"
	"fmt"
	"time"

	"caravel/nbd"
)

// A timelyReader fails a read that takes longer than limit, whatever that waits for:
// what is asked at once of a store that hangs waits for its turn there first.
type timelyReader struct {
	nbd.Reader
	limit time.Duration
	late  error // what such a read fails with
}

// A timelyWriter is one that can be written to. A write waits for the image as a
// read does where it is of a part of a block only.
type timelyWriter struct {
	nbd.Writer
	timelyReader
}

// timely bounds what r takes for an answer.
func timely(r nbd.Reader, limit time.Duration) nbd.Reader {
	bounded := timelyReader{r, limit, fmt.Errorf("no answer in %v", limit)}
	if w, ok := r.(nbd.Writer); ok {
		return timelyWriter{w, bounded}
	}
	return bounded
}

func (r timelyReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	return r.Reader.ReadAt(ctx, p, off)
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

func (r timelyReader) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.limit, r.late)
}
