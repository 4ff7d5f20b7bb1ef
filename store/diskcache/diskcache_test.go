//go:build unix

package diskcache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/chunker"
	"caravel/store"
	"caravel/store/diskcache"
	"caravel/store/storetest"
)

// open opens a cache, which is closed when the test ends.
func open(t testing.TB, dir string, opt diskcache.Options) *diskcache.Cache {
	t.Helper()
	c, err := diskcache.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// put puts the chunks of these plain bytes, and waits for them.
func put(t testing.TB, c *diskcache.Cache, plains ...[]byte) {
	t.Helper()
	for _, plain := range plains {
		chunk := store.NewChunk(storetest.Want(plain).ID, chunker.SHA512_256, plain, nil)
		if err := c.Put(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
		chunk.Release()
	}
	if err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// get reads the chunk of plain, verified.
func get(ctx context.Context, s store.Store, plain []byte) error {
	chunk, err := s.Get(ctx, storetest.Want(plain))
	if err != nil {
		return err
	}
	defer chunk.Release()
	if err := chunk.Verify(); err != nil {
		return err
	}
	if got, err := chunk.Plain(); err != nil || !bytes.Equal(got, plain) {
		return fmt.Errorf("other bytes (%d, want %d), error %v", len(got), len(plain), err)
	}
	return nil
}

// file is where the chunk of plain lies.
func file(dir string, plain []byte) string {
	id := storetest.Want(plain).ID.String()
	return filepath.Join(dir, "chunks", id[:2], id)
}

func TestWriter(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Writer {
		return open(t, filepath.Join(t.TempDir(), "new", "cache"), diskcache.Options{})
	})
}

// What one process kept, the next one finds.
func TestFoundAgain(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, diskcache.Options{})
	put(t, c, storetest.Plains()...)
	if s := c.Stats(); s.Kept != int64(len(storetest.Plains())) || s.Failed != 0 || s.Bytes == 0 || s.Budget != 10<<30 {
		t.Errorf("%+v", s)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err == nil {
		t.Error("closed twice")
	}
	again := open(t, dir, diskcache.Options{})
	for _, plain := range storetest.Plains() {
		if err := get(t.Context(), again, plain); err != nil {
			t.Error(err)
		}
	}
	if err := get(t.Context(), again, []byte("never put")); !errors.Is(err, store.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	if s := again.Stats(); s.Hits != int64(len(storetest.Plains())) || s.Misses != 1 || s.Bytes != c.Stats().Bytes {
		t.Errorf("%+v, was %+v", s, c.Stats())
	}
}

// Packed chunks lie there as they came, plain ones plain.
func TestKeptAsItCame(t *testing.T) {
	dir, plain := t.TempDir(), storetest.Plains()[2]
	for _, compression := range []store.Compression{store.Zstd, store.XZ, store.Gzip, store.None} {
		f := store.Form{Compression: compression}
		came := storetest.Objects(t, f, plain)
		chunk, err := store.Chunks(storetest.NewMemory(came), f).Get(t.Context(), storetest.Want(plain))
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, dir, diskcache.Options{})
		if err := errors.Join(c.Put(t.Context(), chunk), c.Sync(t.Context()), get(t.Context(), c, plain)); err != nil {
			t.Fatal(err)
		}
		chunk.Release()
		got, err := os.ReadFile(file(dir, plain))
		if err != nil || !bytes.HasSuffix(got, came[f.Name(storetest.Want(plain).ID)]) {
			t.Errorf("%v: %d bytes there, error %v", compression, len(got), err)
		}
	}
}

// What is damaged is never taken for a chunk, and is replaced.
func TestDamaged(t *testing.T) {
	plain := storetest.Plains()[2]
	tests := []struct {
		name  string
		spoil func(b []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"head only", func(b []byte) []byte { return b[:8] }},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }},
		{"longer", func(b []byte) []byte { return append(b, 0) }},
		{"much longer", func(b []byte) []byte { return append(b, make([]byte, 2*len(plain))...) }},
		{"a byte", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"magic", func(b []byte) []byte { b[0] ^= 1; return b }},
		{"form", func(b []byte) []byte { b[4] = 2; return b }},
		{"plain for packed", func(b []byte) []byte { b[4] ^= 1; return b }},
		{"head's rest", func(b []byte) []byte { b[7] = 1; return b }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
	}
	for _, tt := range tests {
		for _, f := range []store.Form{{}, {Compression: store.None}} {
			t.Run(fmt.Sprintf("%s %v", tt.name, f.Compression), func(t *testing.T) {
				dir := t.TempDir()
				c := open(t, dir, diskcache.Options{})
				far := store.Chunks(storetest.NewMemory(storetest.Objects(t, f, plain)), f)
				s := store.Cache(c, far, nil)
				if err := errors.Join(get(t.Context(), s, plain), c.Sync(t.Context())); err != nil {
					t.Fatal(err)
				}
				good, err := os.ReadFile(file(dir, plain))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file(dir, plain), tt.spoil(bytes.Clone(good)), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := get(t.Context(), c, plain); !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("got %v, want ErrCorrupt", err)
				}
				if err := errors.Join(get(t.Context(), s, plain), c.Sync(t.Context())); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(file(dir, plain)); err != nil || !bytes.Equal(got, good) {
					t.Errorf("not replaced: %d bytes, want %d; error %v", len(got), len(good), err)
				}
			})
		}
	}
}

// A hit renews the time of use, but not again and again.
func TestUseIsNoted(t *testing.T) {
	dir, plain := t.TempDir(), storetest.Plains()[1]
	c := open(t, dir, diskcache.Options{})
	put(t, c, plain)
	if err := c.WriteFile("index/x", plain); err != nil {
		t.Fatal(err)
	}
	image := c.Image("x")
	if err := os.WriteFile(image, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path string
		use  func() error
	}{
		{file(dir, plain), func() error { return get(t.Context(), c, plain) }},
		{filepath.Join(dir, "files/index/x"), func() error { _, err := c.ReadFile("index/x", 1<<20); return err }},
		{image, func() error { c.Used("x"); return nil }},
	}
	for _, tt := range tests {
		for _, old := range []time.Duration{time.Hour, -time.Hour} {
			then := time.Now().Add(-old)
			if err := os.Chtimes(tt.path, then, then); err != nil {
				t.Fatal(err)
			}
			if err := tt.use(); err != nil {
				t.Fatal(err)
			}
			noted := modTime(t, tt.path)
			if noted.Equal(then) || time.Since(noted).Abs() > 50*time.Minute {
				t.Errorf("%s: last used %v, not now", tt.path, noted)
			}
			if err := tt.use(); err != nil || tt.path != image && !modTime(t, tt.path).Equal(noted) {
				t.Errorf("%s: noted again at once; error %v", tt.path, err)
			}
		}
	}
}

func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.ModTime()
}

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 2 {
		c := open(t, dir, diskcache.Options{})
		for i := range 4 {
			wg.Go(func() {
				for j := range 60 {
					plain := bytes.Repeat([]byte{byte(i + j)}, 1000+j)
					chunk := store.NewChunk(storetest.Want(plain).ID, chunker.SHA512_256, plain, nil)
					if err := errors.Join(c.Put(t.Context(), chunk), get(t.Context(), c, plain)); err != nil {
						t.Error(err)
					}
					chunk.Release()
				}
			})
		}
	}
	wg.Wait()
}

// The log says once that nothing can be written, and reads go on; when writing
// works again, so does the cache, without a word more than that.
func TestCannotBeWritten(t *testing.T) {
	dir, plains := filepath.Join(t.TempDir(), "cache"), storetest.Plains()
	var out strings.Builder
	c := open(t, dir, diskcache.Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	put(t, c, plains[0])
	// A file where the folder was, which cannot be made again.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, c, plains...)
	put(t, c, plains...)
	for _, plain := range plains {
		if err := get(t.Context(), c, plain); !errors.Is(err, store.ErrMissing) {
			t.Errorf("got %v, want ErrMissing", err)
		}
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("logged %d warnings:\n%s", n, &out)
	}
	if s := c.Stats(); s.Failed != int64(2*len(plains)) {
		t.Errorf("%+v", s)
	}
	if c.Room() != 0 {
		t.Errorf("there is room for %d bytes where nothing can be written", c.Room())
	}
}

// The user may remove the folder, or what is in it, at any time.
func TestVanishes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	tests := []struct {
		name   string
		remove func() error
	}{
		{"all of it", func() error { return os.RemoveAll(dir) }},
		{"what is in it", func() error { return emptied(dir) }},
		{"the chunks", func() error { return os.RemoveAll(filepath.Join(dir, "chunks")) }},
		{"what is in chunks", func() error { return emptied(filepath.Join(dir, "chunks")) }},
		{"tmp", func() error { return os.RemoveAll(filepath.Join(dir, "tmp")) }},
		{"the count", func() error { return os.Remove(filepath.Join(dir, "usage")) }},
		{"it is moved", func() error { return os.Rename(dir, filepath.Join(t.TempDir(), "away")) }},
	}
	c := open(t, dir, diskcache.Options{})
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plain := bytes.Repeat([]byte{byte(i)}, 5000)
			put(t, c, plain)
			if err := errors.Join(get(t.Context(), c, plain), c.WriteFile("index/x", plain)); err != nil {
				t.Fatal(err)
			}
			if err := tt.remove(); err != nil {
				t.Fatal(err)
			}
			if err := get(t.Context(), c, plain); err != nil && !errors.Is(err, store.ErrMissing) {
				t.Errorf("got %v, want ErrMissing", err)
			}
			if _, err := c.ReadFile("index/x", 1<<20); err != nil && !errors.Is(err, store.ErrMissing) {
				t.Errorf("got %v, want ErrMissing", err)
			}
			put(t, c, plain)
			if err := errors.Join(get(t.Context(), c, plain), c.WriteFile("index/x", plain)); err != nil {
				t.Error(err)
			}
			if s := c.Stats(); s.Failed != 0 {
				t.Errorf("%+v", s)
			}
			// Others find it where it should be.
			if err := get(t.Context(), open(t, dir, diskcache.Options{}), plain); err != nil && tt.name != "it is moved" {
				t.Errorf("another process: %v", err)
			}
		})
	}
}

func emptied(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	disk, err := diskcache.Open(dir, diskcache.Options{Size: 1 << 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	plain := []byte("plain bytes")
	want := storetest.Want(plain)
	chunk := store.NewChunk(want.ID, want.Digest, plain, nil)
	far := storetest.NewMemory(nil)
	web, err := store.Writable(far, store.Form{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	err = web.Put(ctx, chunk)
	chunk.Release()

	s := store.Cache(disk, web, nil)
	for range 3 {
		c, getErr := s.Get(ctx, want)
		if err = errors.Join(err, getErr); err != nil {
			break
		}
		c.Release()
	}
	err = errors.Join(err, disk.Sync(ctx))
	fmt.Println(disk.Stats().Hits, disk.Stats().Misses, disk.Stats().Kept, errors.Join(err, disk.Close()))
	// Output: 2 1 1 <nil>
}
