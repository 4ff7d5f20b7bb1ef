package server_test

import (
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/server"
	"caravel/store"
	"caravel/store/local"
	"caravel/store/storetest"
)

// anIndex is one of n chunks.
func anIndex(t *testing.T, n int, d chunker.Digest) []byte {
	t.Helper()
	p := chunker.Params{Min: 48, Avg: 1 << 10, Max: 4 << 10}
	b := index.NewBuilder(feature.Blob(d), p)
	for i := range n {
		id, plain := piece(uint64(i), p.Min+i%100)
		if err := b.Append(id, len(plain)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := b.Index().WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const sidecar = "caravel sidecar\n and what it says"

func TestIndex(t *testing.T) {
	x := anIndex(t, 3, 0)
	objects := map[string][]byte{
		"a.caibx": x, "a/a.caidx": x, "a.caidx.tree": []byte(sidecar),
		"secret.caibx": []byte("-----BEGIN PRIVATE KEY-----"), "empty.caibx": nil, "x.caidx.tree": x, ".hidden.caibx": x,
	}
	dir := t.TempDir()
	for name, b := range objects {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []store.Blobs{local.New(dir, local.Options{Follow: true}), storetest.NewMemory(objects)} {
		h, err := server.NewIndexes(b, server.IndexOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for name, status := range map[string]int{
			"/a.caibx": 200, "/a/a.caidx": 200, "/a.caidx.tree": 200, "/b/a.caibx": 404, "/a/a.caibx": 404, "/a": 404, "/none": 404,
			"/secret.caibx": 404, "/empty.caibx": 404, "/x.caidx.tree": 404, "/.hidden.caibx": 400, "/": 400, "": 400, "//a.caibx": 400,
			"/../a.caibx": 400, "/a/../a.caibx": 400, "/./a.caibx": 400, `/a\b`: 400, "/a\x00": 400, "/a\n": 400, "/" + strings.Repeat("a", 241): 400,
		} {
			w := ask(h, "GET", name, nil)
			if w.Code != status {
				t.Errorf("%v: %q: %d %s", b, name, w.Code, w.Body)
			}
		}
		w := ask(h, "GET", "/a.caibx", nil)
		tag := w.Header().Get("Etag")
		if !bytes.Equal(w.Body.Bytes(), x) || tag == "" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%v: %v, %d bytes", b, w.Header(), w.Body.Len())
		}
		if w := ask(h, "GET", "/a.caibx", nil, "If-None-Match", tag); w.Code != 304 {
			t.Errorf("%v: the same again: %d", b, w.Code)
		}
		if w := ask(h, "GET", "/a.caibx", nil, "Range", "bytes=64-103"); w.Code != 206 || !bytes.Equal(w.Body.Bytes(), x[64:104]) {
			t.Errorf("%v: a range: %d, %d bytes", b, w.Code, w.Body.Len())
		}
		if w := ask(h, "HEAD", "/a.caibx", nil); w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("%v: HEAD: %d", b, w.Code)
		}
		if w := ask(h, "PUT", "/b.caibx", bytes.NewReader(x)); w.Code != 400 {
			t.Errorf("%v: PUT: %d", b, w.Code)
		}
		if w := ask(h, "POST", "/b.caibx", bytes.NewReader(x)); w.Code != 405 {
			t.Errorf("%v: POST: %d", b, w.Code)
		}
	}
}

func TestPutIndex(t *testing.T) {
	x, sha256 := anIndex(t, 1000, 0), chunker.SHA256
	tests := []struct {
		name, path string
		body       io.Reader
		size       int64
		digest     *chunker.Digest
		status     int
	}{
		{"an index", "/a.caibx", bytes.NewReader(x), int64(len(x)), nil, 200},
		{"in a folder", "/a/b/a.caibx", bytes.NewReader(x), int64(len(x)), nil, 200},
		{"in pieces", "/a.caibx", iotest.OneByteReader(bytes.NewReader(x)), -1, nil, 200},
		{"a sidecar", "/a.caidx.tree", strings.NewReader(sidecar), -1, nil, 200},
		{"no sidecar", "/a.caidx.tree", bytes.NewReader(x), -1, nil, 415},
		{"of another algorithm", "/a.caibx", bytes.NewReader(x), -1, &sha256, 415},
		{"of that algorithm", "/a.caibx", bytes.NewReader(anIndex(t, 3, sha256)), -1, &sha256, 200},
		{"truncated", "/a.caibx", bytes.NewReader(x[:len(x)-1]), -1, nil, 415},
		{"with something behind", "/a.caibx", bytes.NewReader(append(bytes.Clone(x), 0)), -1, nil, 415},
		{"nothing", "/a.caibx", strings.NewReader(""), 0, nil, 415},
		{"nonsense", "/a.caibx", strings.NewReader(strings.Repeat("nonsense", 1e5)), -1, nil, 415},
		{"broken off", "/a.caibx", io.MultiReader(bytes.NewReader(x[:500]), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, nil, 400},
		{"says that it is too long", "/a.caibx", unread{t}, 1 << 40, nil, 413},
		{"hidden", "/.a.caibx", unread{t}, 10, nil, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			h, err := server.NewIndexes(local.New(dir, local.Options{Follow: true}), server.IndexOptions{Writable: true, Digest: tt.digest})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("PUT", "http://host"+tt.path, tt.body)
			r.ContentLength = tt.size
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			there := ask(h, "GET", tt.path, nil)
			if (there.Code == 200) != (tt.status == 200) {
				t.Errorf("then there is: %d", there.Code)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); tt.status != 200 && len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
