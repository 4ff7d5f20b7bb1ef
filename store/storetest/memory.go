package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"sync"

	"caravel/store"
)

// Memory is a backend without disk or network.
type Memory struct {
	mu      sync.Mutex // guards objects
	objects map[string][]byte
}

var (
	_ store.Blobs   = (*Memory)(nil)
	_ store.Statter = (*Memory)(nil)
	_ store.Putter  = (*Memory)(nil)
	_ store.Lister  = (*Memory)(nil)
	_ store.Deleter = (*Memory)(nil)
)

// NewMemory returns a backend that holds objects, which may be nil.
func NewMemory(objects map[string][]byte) *Memory {
	m := &Memory{objects: make(map[string][]byte)}
	maps.Copy(m.objects, objects)
	return m
}

// Objects is a copy of what the backend holds.
func (m *Memory) Objects() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects)
}

func (m *Memory) String() string { return "memory" }

func (m *Memory) get(ctx context.Context, name string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("memory: %s: %w", name, store.ErrMissing)
	}
	return b, nil
}

// Open reads an object.
func (m *Memory) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	b, err := m.get(ctx, name)
	if err != nil {
		return nil, store.Info{}, err
	}
	info := store.Info{Size: int64(len(b))}
	if r.Off > info.Size {
		return nil, store.Info{}, fmt.Errorf("memory: %s: offset %d is behind the end", name, r.Off)
	}
	b = b[r.Off:]
	if r.Len > 0 {
		b = b[:min(r.Len, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), info, nil
}

// Stat describes an object.
func (m *Memory) Stat(ctx context.Context, name string) (store.Info, error) {
	b, err := m.get(ctx, name)
	return store.Info{Size: int64(len(b))}, err
}

// Put stores an object.
func (m *Memory) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	b, err := io.ReadAll(r)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil && size >= 0 && int64(len(b)) != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("memory: %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = b
	return nil
}

// Sync does nothing: memory does not survive.
func (m *Memory) Sync(context.Context) error { return nil }

// List gives the names.
func (m *Memory) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name := range m.Objects() {
			if strings.HasPrefix(name, prefix) && !yield(name, nil) {
				return
			}
		}
	}
}

// Delete removes an object.
func (m *Memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}
