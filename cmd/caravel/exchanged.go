package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"caravel/server"
	"caravel/store"
)

// nearFolders are the folders of chunks that a server sends as they lie, until others
// take their place. They are one to it: the first that has a chunk is asked.
type nearFolders struct {
	now atomic.Pointer[[]server.Files]
}

var (
	_ server.Files       = (*nearFolders)(nil)
	_ server.Descriptors = (*nearFolders)(nil)
)

func newNearFolders(all []server.Files) *nearFolders {
	f := &nearFolders{}
	f.put(all)
	return f
}

func (f *nearFolders) put(all []server.Files) { f.now.Store(&all) }

// File implements server.Files.
func (f *nearFolders) File(ctx context.Context, name string) (*os.File, store.Info, error) {
	err := error(store.ErrMissing)
	for _, folder := range *f.now.Load() {
		file, info, failed := folder.File(ctx, name)
		if failed == nil {
			return file, info, nil
		}
		err = failed
	}
	return nil, store.Info{}, err
}

// Descriptor implements server.Descriptors.
func (f *nearFolders) Descriptor(name string) (int, store.Info, error) {
	err := error(store.ErrMissing)
	for _, folder := range *f.now.Load() {
		d, ok := folder.(server.Descriptors)
		if !ok {
			return -1, store.Info{}, errors.ErrUnsupported
		}
		fd, info, failed := d.Descriptor(name)
		if failed == nil {
			return fd, info, nil
		}
		err = failed
	}
	return -1, store.Info{}, err
}

// An exchangedWriter is a store.Writer in whose place another one is put. What was put
// into the former is synced there.
type exchangedWriter struct {
	mu    sync.Mutex
	now   *target   // guarded by mu
	dirty []*target // into which something was put since the last Sync; guarded by mu
}

// A target is one of them.
type target struct{ store.Writer }

var _ store.Writer = (*exchangedWriter)(nil)

func newExchangedWriter(w store.Writer) *exchangedWriter { return &exchangedWriter{now: &target{w}} }

func (e *exchangedWriter) put(w store.Writer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = &target{w}
}

func (e *exchangedWriter) target() *target {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *exchangedWriter) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	return e.target().Get(ctx, want)
}

func (e *exchangedWriter) Has(ctx context.Context, want store.Want) (bool, error) {
	return e.target().Has(ctx, want)
}

func (e *exchangedWriter) Put(ctx context.Context, c *store.Chunk) error {
	to := e.target()
	if err := to.Put(ctx, c); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.dirty, to) {
		e.dirty = append(e.dirty, to)
	}
	return nil
}

func (e *exchangedWriter) Sync(ctx context.Context) error {
	e.mu.Lock()
	dirty := e.dirty
	e.dirty = nil
	e.mu.Unlock()
	var errs []error
	for _, to := range dirty {
		errs = append(errs, to.Sync(ctx))
	}
	return errors.Join(errs...)
}
