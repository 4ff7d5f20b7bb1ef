package open_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	nethttp "net/http"

	"caravel/store"
	"caravel/store/open"
)

func openRanges(t *testing.T, location string, have store.Info) *open.File {
	t.Helper()
	f, err := open.Ranges(t.Context(), location, have, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A file that fits into the first answer costs one request; of any other, each
// read costs one.
func TestRanges(t *testing.T) {
	for _, size := range []int{1, 1 << 20, 1<<20 + 1, 3_000_000} {
		w := &web{}
		want := noise(size)
		location := serve(t, w, want)
		f := openRanges(t, location, store.Info{})
		checkAt(t, f, want)
		w.requests.Store(0)
		p := make([]byte, min(1000, size))
		for _, off := range []int{0, min(1<<20, size) - len(p)} {
			if n, err := f.ReadAt(t.Context(), p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, want[off:off+n]) {
				t.Errorf("%d bytes: got %d at %d, error %v", size, n, off, err)
			}
		}
		if n := w.requests.Load(); n != 0 {
			t.Errorf("%d bytes: %d requests for what came with the first answer", size, n)
		}
		if size > 1<<20 {
			for range 2 {
				if n, err := f.ReadAt(t.Context(), p, int64(size-len(p))); n != len(p) || err != nil || !bytes.Equal(p, want[size-n:]) {
					t.Errorf("%d bytes: got %d at the end, error %v", size, n, err)
				}
			}
			if n := w.requests.Load(); n != 2 {
				t.Errorf("%d bytes: %d requests for two reads", size, n)
			}
		}
		if here, end := f.Has(0); !here || end != int64(min(1<<20, size)) {
			t.Errorf("%d bytes: here %v to %d", size, here, end)
		}
	}
}

func TestRangesElsewhere(t *testing.T) {
	want := noise(2_000_000)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	w := &web{whole: true}
	for _, location := range []string{path, "file://" + path, serve(t, w, want)} {
		f := openRanges(t, location, store.Info{Tag: "what nobody has"})
		checkAt(t, f, want)
		if location == path && f.Info().ModTime.IsZero() {
			t.Error("no time of a file")
		}
	}
	if n := w.requests.Load(); n != 2 {
		t.Errorf("%d requests where there are no ranges, want one to find out and one for all", n)
	}
}

func TestRangesOfOneVersion(t *testing.T) {
	w := &web{}
	want := noise(2_000_000)
	location := serve(t, w, want)
	f := openRanges(t, location, store.Info{})
	for range 2 {
		if _, err := open.Ranges(t.Context(), location, f.Info(), open.Options{}); !errors.Is(err, store.ErrUnchanged) {
			t.Errorf("got %v, want that it is unchanged", err)
		}
	}
	other := bytes.Clone(want)
	other[0]++
	w.content.Store(&other)
	p := make([]byte, 10)
	if _, err := f.ReadAt(t.Context(), p, 1_500_000); !errors.Is(err, store.ErrChanged) || !strings.HasSuffix(err.Error(), "; open it again to read the new version") {
		t.Errorf("got %v, want that it has changed, and what to do", err)
	}
	if _, err := f.Content(t.Context(), 1<<30); !errors.Is(err, store.ErrChanged) {
		t.Errorf("all of it: got %v, want that it has changed", err)
	}
	checkAt(t, openRanges(t, location, f.Info()), other)
	g := openRanges(t, serve(t, &web{}, want), store.Info{})
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.ReadAt(t.Context(), p, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := openRanges(t, location, store.Info{}).ReadAt(t.Context(), p, -1); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a negative offset: %v", err)
	}
}

func TestContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 9 << 20} {
		want := noise(size + 1)[:size]
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(nethttp.FileServer(nethttp.Dir(filepath.Dir(path))))
		defer server.Close()
		for _, location := range []string{path, server.URL + "/file"} {
			f := openRanges(t, location, store.Info{})
			got, err := f.Content(t.Context(), int64(size))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes of %d, error %v", location, len(got), size, err)
			}
			if size == 0 {
				continue
			}
			if _, err := f.Content(t.Context(), int64(size-1)); err == nil || err.Error() != fmt.Sprintf("open: %s: more than %d bytes", location, size-1) {
				t.Errorf("over the limit: %v", err)
			}
		}
	}
}

// A file of this machine that gets shorter is not taken for whole.
func TestContentCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, noise(1000), 0o644); err != nil {
		t.Fatal(err)
	}
	f := openRanges(t, path, store.Info{})
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	want := "open: " + path + ": unexpected EOF after 10 of 1000 bytes"
	if _, err := f.Content(t.Context(), 1000); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A file is sent again when it has changed, and not before, whatever its server
// knows of versions.
func TestRefresh(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	folder := fstest.MapFS{"file": {Data: []byte("first"), ModTime: modified}}
	tags, sent := true, 0
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if tags {
			w.Header().Set("ETag", fmt.Sprintf("%q", folder["file"].Data))
		}
		nethttp.FileServerFS(folder).ServeHTTP(counter{w, &sent}, r)
	}))
	defer server.Close()
	location := server.URL + "/file"
	refresh := func(have store.Info, want string) store.Info {
		t.Helper()
		sent = 0
		content, info, err := open.Refresh(t.Context(), location, have, 100, open.Options{})
		if want == "" && (!errors.Is(err, store.ErrUnchanged) || sent > 0) || want != "" && (err != nil || string(content) != want) {
			t.Errorf("got %q, %d bytes sent, error %v; want %q", content, sent, err, want)
		}
		return info
	}
	for _, tags = range []bool{true, false} {
		folder["file"] = &fstest.MapFile{Data: []byte("first"), ModTime: modified}
		info := refresh(store.Info{}, "first")
		refresh(info, "")
		folder["file"] = &fstest.MapFile{Data: []byte("other"), ModTime: modified.Add(time.Second)}
		info = refresh(info, "other")
		refresh(info, "")
	}
	// A server that tells neither a tag nor a date sends all of it each time.
	folder["file"] = &fstest.MapFile{Data: []byte("plain")}
	for range 2 {
		if info := refresh(refresh(store.Info{}, "plain"), "plain"); info.Tag != "" || !info.ModTime.IsZero() {
			t.Errorf("%+v", info)
		}
	}
	if _, _, err := open.Refresh(t.Context(), location, store.Info{}, 4, open.Options{}); err == nil || err.Error() != "open: "+location+": more than 4 bytes" {
		t.Errorf("over the limit: %v", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a file of this machine is read each time
		content, info, err := open.Refresh(t.Context(), path, store.Info{Size: 4, ModTime: modified}, 100, open.Options{})
		if err != nil || string(content) != "here" || info.Size != 4 || info.ModTime.IsZero() {
			t.Errorf("got %q, %+v, %v", content, info, err)
		}
	}
	if content, _, err := open.Refresh(t.Context(), "-", store.Info{}, 100, open.Options{Stdin: strings.NewReader("in")}); err != nil || string(content) != "in" {
		t.Errorf("standard input: %q, %v", content, err)
	}
}

// A counter counts the bytes of bodies.
type counter struct {
	nethttp.ResponseWriter
	sent *int
}

func (c counter) Write(p []byte) (int, error) {
	*c.sent += len(p)
	return c.ResponseWriter.Write(p)
}

func (c counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	*c.sent += int(n)
	return n, err
}
