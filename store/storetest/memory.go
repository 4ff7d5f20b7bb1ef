package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"sync"

	"caravel/store"
)

// Memory is a backend without disk or network.
type Memory struct {
	mu      sync.Mutex // guards objects, puts
	objects map[string]object
	puts    int
}

type object struct {
	content []byte
	tag     string
}

func (o object) info() store.Info { return store.Info{Size: int64(len(o.content)), Tag: o.tag} }

var (
	_ store.Blobs     = (*Memory)(nil)
	_ store.Statter   = (*Memory)(nil)
	_ store.Refresher = (*Memory)(nil)
	_ store.Putter    = (*Memory)(nil)
	_ store.Lister    = (*Memory)(nil)
	_ store.Deleter   = (*Memory)(nil)
)

// NewMemory returns a backend that holds objects, which may be nil.
func NewMemory(objects map[string][]byte) *Memory {
	m := &Memory{objects: make(map[string]object)}
	for name, content := range objects {
		m.put(name, content)
	}
	return m
}

// put keeps an object. The caller holds mu, or nobody else has m.
func (m *Memory) put(name string, content []byte) {
	m.puts++
	m.objects[name] = object{content, strconv.Itoa(m.puts)}
}

// Objects is a copy of what the backend holds.
func (m *Memory) Objects() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	objects := make(map[string][]byte, len(m.objects))
	for name, o := range m.objects {
		objects[name] = o.content
	}
	return objects
}

func (m *Memory) String() string { return "memory" }

func (m *Memory) get(ctx context.Context, name string) (object, error) {
	if ctx.Err() != nil {
		return object{}, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return object{}, fmt.Errorf("memory: %s: %w", name, store.ErrMissing)
	}
	return o, nil
}

// Open reads an object.
func (m *Memory) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return m.Refresh(ctx, name, r, store.Info{})
}

// Refresh reads an object that somebody has a version of.
func (m *Memory) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	o, err := m.get(ctx, name)
	switch {
	case err != nil:
		return nil, store.Info{}, err
	case r.Tag != "" && o.tag != r.Tag:
		return nil, store.Info{}, fmt.Errorf("memory: %s: %w", name, store.ErrChanged)
	case o.tag == have.Tag:
		return nil, store.Info{}, fmt.Errorf("memory: %s: %w", name, store.ErrUnchanged)
	case r.Off > int64(len(o.content)):
		return nil, store.Info{}, fmt.Errorf("memory: %s: offset %d is behind the end", name, r.Off)
	}
	b := o.content[r.Off:]
	if r.Len > 0 {
		b = b[:min(r.Len, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), o.info(), nil
}

// Stat describes an object.
func (m *Memory) Stat(ctx context.Context, name string) (store.Info, error) {
	o, err := m.get(ctx, name)
	return o.info(), err
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
	m.put(name, b)
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
