package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"caravel/chunker"
	"caravel/server"
	"caravel/store"
	"caravel/store/fetch"
	"caravel/store/local"
	"caravel/store/storetest"
)

// piece makes a chunk that does not compress to nothing.
func piece(seed uint64, n int) (chunker.ID, []byte) {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.IntN(64))
	}
	return chunker.Digest(0).Sum(b), b
}

// filled is a folder with a chunk in the form f.
func filled(t testing.TB, f store.Form, plain []byte) (dir string, id chunker.ID) {
	t.Helper()
	dir = t.TempDir()
	w, err := store.Writable(local.New(dir, local.Options{}), f)
	if err != nil {
		t.Fatal(err)
	}
	id = chunker.Digest(0).Sum(plain)
	c := store.NewChunk(id, 0, plain, nil)
	defer c.Release()
	if err := w.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func writer(t *testing.T, b store.Blobs, f store.Form) store.Writer {
	t.Helper()
	w, err := store.Writable(b, f)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// ask sends a request to a handler, as a server would.
func ask(h http.Handler, method, target string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://host/", body)
	r.URL.Path, r.URL.RawPath = target, ""
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestChunk(t *testing.T) {
	id, plain := piece(1, 50_000)
	packed, raw := store.Form{}, store.Form{Compression: store.None}
	for _, stored := range []store.Form{packed, raw, {Compression: store.XZ}, {Compression: store.Gzip}} {
		for _, wanted := range []store.Form{packed, raw} {
			for _, files := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v as %v, files %v", stored.Compression, wanted.Compression, files), func(t *testing.T) {
					dir, _ := filled(t, stored, plain)
					opt := server.ChunkOptions{Form: wanted}
					if files {
						opt.Files = []server.Files{local.New(dir, local.Options{})}
					}
					h := server.NewChunks(store.Verify(store.Chunks(local.New(dir, local.Options{}), store.Form{Either: true})), opt)
					right(t, h, wanted, id, plain)
				})
			}
		}
	}
}

// right asks for a chunk in all ways.
func right(t *testing.T, h http.Handler, f store.Form, id chunker.ID, plain []byte) {
	t.Helper()
	url := "/" + f.Name(id)
	w := ask(h, "GET", url, nil)
	if w.Code != 200 || w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
		t.Fatalf("%d, %v, %d bytes: %.100s", w.Code, w.Header(), w.Body.Len(), w.Body)
	}
	body := w.Body.Bytes()
	c := store.NewStored(store.Want{ID: id}, "", f.Compression, body, nil)
	defer c.Release()
	if got, err := c.Plain(); err != nil || !bytes.Equal(got, plain) || c.Verify() != nil {
		t.Errorf("not the chunk: %v", err)
	}
	if f.Compression == store.Zstd && !f.Begins(body[:4]) {
		t.Errorf("begins with %x", body[:4])
	}
	tag := w.Header().Get("Etag")
	if !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || tag == "" || w.Header().Get("Accept-Ranges") != "bytes" {
		t.Errorf("header %v", w.Header())
	}
	if w := ask(h, "HEAD", url, nil); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := ask(h, "GET", url, nil, "If-None-Match", tag); w.Code != 304 {
		t.Errorf("the same again: %d", w.Code)
	}
	if w := ask(h, "GET", url, nil, "Range", "bytes=100-299", "If-Range", tag); w.Code != 206 || !bytes.Equal(w.Body.Bytes(), body[100:300]) {
		t.Errorf("a range: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := ask(h, "GET", url, nil, "Range", "bytes=9999999-"); w.Code != 416 {
		t.Errorf("a range behind the end: %d", w.Code)
	}
}

func TestChunkRefused(t *testing.T) {
	id, plain := piece(1, 1000)
	dir, _ := filled(t, store.Form{}, plain)
	text := id.String()
	other, _ := piece(2, 10)
	good := "/" + text[:4] + "/" + text + ".cacnk"
	read := server.NewChunks(store.Chunks(local.New(dir, local.Options{}), store.Form{}), server.ChunkOptions{})
	tests := []struct {
		name, method, path string
		status             int
		text               string
	}{
		{"missing", "GET", "/" + store.Form{}.Name(other), 404, ""},
		{"missing, HEAD", "HEAD", "/" + store.Form{}.Name(other), 404, ""},
		{"without ending", "GET", good[:len(good)-6], 400, "compressed"},
		{"another folder", "GET", "/0000/" + text + ".cacnk", 400, text[:4] + "/"},
		{"upper case", "GET", strings.ToUpper(good[:5]) + "/" + strings.ToUpper(text) + ".cacnk", 400, ""},
		{"no folder", "GET", "/" + text + ".cacnk", 400, ""},
		{"deeper", "GET", "/x" + good, 400, ""},
		{"two slashes", "GET", "/" + good, 400, ""},
		{"short", "GET", "/abcd/abcd", 400, "64 hexadecimal digits"},
		{"nothing", "GET", "", 400, ""},
		{"root", "GET", "/", 400, ""},
		{"upwards", "GET", "/../../etc/passwd", 400, ""},
		{"written to", "PUT", good, 400, "written"},
		{"POST", "POST", good, 405, "GET, HEAD, PUT"},
		{"DELETE", "DELETE", good, 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(read, tt.method, tt.path, nil)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.text) || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
			}
		})
	}
}

// TestDamagedFile is served as the store has it from elsewhere, and not at all where
// it has not.
func TestDamagedFile(t *testing.T) {
	id, plain := piece(1, 1000)
	good, _ := filled(t, store.Form{}, plain)
	bad, _ := filled(t, store.Form{}, plain)
	path := filepath.Join(bad, filepath.FromSlash(store.Form{}.Name(id)))
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(dir string) store.Store { return store.Chunks(local.New(dir, local.Options{}), store.Form{}) }
	files := []server.Files{local.New(bad, local.Options{})}
	right(t, server.NewChunks(store.Router(nil, at(bad), at(good)), server.ChunkOptions{Files: files}), store.Form{}, id, plain)
	w := ask(server.NewChunks(store.Verify(at(bad)), server.ChunkOptions{Files: files}), "GET", "/"+store.Form{}.Name(id), nil)
	if w.Code != 500 || strings.Contains(w.Body.String(), bad) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// failing is a store that fails.
type failing struct{ err error }

func (f failing) Get(context.Context, store.Want) (*store.Chunk, error) { return nil, f.err }
func (f failing) Has(context.Context, store.Want) (bool, error)         { return false, f.err }

func TestStoreFails(t *testing.T) {
	id, _ := piece(1, 10)
	for _, tt := range []struct {
		err    error
		status int
	}{
		{store.ErrMissing, 404},
		{fmt.Errorf("http://user:secret@host: %w", store.ErrRefused), 500},
		{&store.CorruptError{ID: id, Where: "secret"}, 500},
		{&store.BusyError{Err: fmt.Errorf("secret")}, 503},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := ask(server.NewChunks(failing{tt.err}, server.ChunkOptions{}), method, "/"+store.Form{}.Name(id), nil)
			if w.Code != tt.status || strings.Contains(w.Body.String(), "secret") || (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("%v: %d %v %s", tt.err, w.Code, w.Header(), w.Body)
			}
		}
	}
}

func TestPut(t *testing.T) {
	id, plain := piece(1, 10_000)
	other, _ := piece(2, 10)
	zstd := storedAs(t, store.Form{}, id, plain)
	packed, raw := store.Form{}, store.Form{Compression: store.None}
	long := int64(store.Form{}.Limit(0)) + 1
	tests := []struct {
		name   string
		form   store.Form
		trust  bool
		id     chunker.ID
		body   io.Reader
		size   int64 // as it is said; -1: not
		status int
	}{
		{"packed", packed, false, id, bytes.NewReader(zstd), int64(len(zstd)), 200},
		{"plain", raw, false, id, bytes.NewReader(plain), int64(len(plain)), 200},
		{"length not said", packed, false, id, bytes.NewReader(zstd), -1, 200},
		{"xz", packed, false, id, bytes.NewReader(storedAs(t, store.Form{Compression: store.XZ}, id, plain)), -1, 200},
		{"another", packed, false, other, bytes.NewReader(zstd), int64(len(zstd)), 400},
		{"another, plain", raw, false, other, bytes.NewReader(plain), int64(len(plain)), 400},
		{"another, trusted", packed, true, other, bytes.NewReader(zstd), int64(len(zstd)), 200},
		{"nonsense", packed, false, id, strings.NewReader("nonsense"), 8, 400},
		{"nonsense, trusted", packed, true, id, strings.NewReader("nonsense"), 8, 400},
		{"nothing", packed, false, id, strings.NewReader(""), 0, 400},
		{"says that it is too long", packed, false, id, unread{t}, long, 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kept := storetest.NewMemory(nil)
			w := writer(t, kept, store.Form{})
			h := server.NewChunks(w, server.ChunkOptions{Form: tt.form, Trust: tt.trust, Writer: w})
			r := httptest.NewRequest("PUT", "http://host/"+tt.form.Name(tt.id), tt.body)
			r.ContentLength = tt.size
			got := httptest.NewRecorder()
			h.ServeHTTP(got, r)
			if got.Code != tt.status || (len(kept.Objects()) == 1) != (tt.status == 200) {
				t.Fatalf("%d %s; %d kept", got.Code, got.Body, len(kept.Objects()))
			}
			if tt.status == 200 && tt.id == id {
				right(t, h, tt.form, id, plain)
			}
		})
	}
}

// storedAs is a chunk as a store of that form keeps it.
func storedAs(t *testing.T, f store.Form, id chunker.ID, plain []byte) (b []byte) {
	t.Helper()
	c := store.NewChunk(id, 0, plain, nil)
	defer c.Release()
	if err := c.Stored(f, func(stored []byte) error { b = bytes.Clone(stored); return nil }); err != nil {
		t.Fatal(err)
	}
	return b
}

// unread is a body of which nobody is to read.
type unread struct{ t *testing.T }

func (u unread) Read(p []byte) (int, error) {
	u.t.Error("it is read")
	return 0, io.EOF
}

// TestOnePut has those who put at the same time share the wait for the disk.
func TestOnePut(t *testing.T) {
	const clients = 64
	w := &slowSync{Writer: writer(t, storetest.NewMemory(nil), store.Form{}), wait: make(chan struct{})}
	h := server.NewChunks(w, server.ChunkOptions{Writer: w})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			id, plain := piece(uint64(i), 100)
			if got := ask(h, "PUT", "/"+store.Form{}.Name(id), bytes.NewReader(storedAs(t, store.Form{}, id, plain))); got.Code != 200 {
				t.Errorf("%d", got.Code)
			}
			if !w.synced.Load() {
				t.Error("answered before it was on disk")
			}
		})
	}
	for w.puts.Load() < clients { // all of them are there, and one syncs
		select {
		case w.wait <- struct{}{}:
		default:
		}
	}
	close(w.wait)
	all.Wait()
	if n := w.syncs.Load(); n >= clients {
		t.Errorf("%d syncs", n)
	}
}

type slowSync struct {
	store.Writer
	wait        chan struct{}
	puts, syncs atomic.Int64
	synced      atomic.Bool
}

func (s *slowSync) Put(ctx context.Context, c *store.Chunk) error {
	defer s.puts.Add(1)
	return s.Writer.Put(ctx, c)
}

func (s *slowSync) Sync(ctx context.Context) error {
	<-s.wait
	s.syncs.Add(1)
	s.synced.Store(true)
	return nil
}

// TestOneRequest has 64 clients want one chunk at the same time, of a store in front of
// which there is a cache.
func TestOneRequest(t *testing.T) {
	id, plain := piece(1, 10_000)
	far := &counting{Store: store.Chunks(storetest.NewMemory(map[string][]byte{store.Form{}.Name(id): storedAs(t, store.Form{}, id, plain)}), store.Form{}), arrive: make(chan struct{})}
	dir := t.TempDir()
	near := writer(t, local.New(dir, local.Options{}), store.Form{})
	q := fetch.New(store.Cache(near, far, nil), fetch.Options{MinWindow: 64, MaxWindow: 64, Tries: 1, Try: -1, Timeout: -1})
	defer q.Close()
	h := server.NewChunks(q, server.ChunkOptions{Files: []server.Files{local.New(dir, local.Options{})}})
	const clients = 64
	var asked atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			if asked.Add(1) == clients {
				close(far.arrive)
			}
			right(t, h, store.Form{}, id, plain)
		})
	}
	all.Wait()
	if n := far.gets.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

type counting struct {
	store.Store
	arrive chan struct{}
	gets   atomic.Int64
}

func (c *counting) Get(ctx context.Context, want store.Want) (*store.Chunk, error) {
	c.gets.Add(1)
	<-c.arrive
	return c.Store.Get(ctx, want)
}
