package http_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/http"
)

var modified = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// files serves a folder as net/http does.
func files(t *testing.T, contents map[string]string) *httptest.Server {
	t.Helper()
	folder := fstest.MapFS{}
	for name, content := range contents {
		folder[name] = &fstest.MapFile{Data: []byte(content), ModTime: modified}
	}
	return serve(t, nethttp.FileServerFS(folder).ServeHTTP)
}

func serve(t *testing.T, h nethttp.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

func newWeb(t *testing.T, base string, opt http.Options) *http.Web {
	t.Helper()
	if opt.Client == nil {
		opt.Client = http.NewClient(opt)
	}
	t.Cleanup(opt.Client.CloseIdleConnections)
	web, err := http.New(base, opt)
	if err != nil {
		t.Fatal(err)
	}
	return web
}

// read reads a range whole.
func read(ctx context.Context, b store.Blobs, name string, r store.Range) (string, store.Info, error) {
	body, info, err := b.Open(ctx, name, r)
	if err != nil {
		return "", info, err
	}
	content, err := io.ReadAll(body)
	return string(content), info, errors.Join(err, body.Close())
}

func TestOpen(t *testing.T) {
	const content = "0123456789"
	web := newWeb(t, files(t, map[string]string{"d/file": content, "d/empty": ""}).URL+"/d/", http.Options{})
	tests := []struct {
		name, object string
		r            store.Range
		want         string
	}{
		{"whole", "file", store.Range{}, content},
		{"middle", "file", store.Range{Off: 3, Len: 4}, "3456"},
		{"start", "file", store.Range{Len: 2}, "01"},
		{"to the end", "file", store.Range{Off: 8}, "89"},
		{"beyond the end", "file", store.Range{Off: 8, Len: 100}, "89"},
		{"at the end", "file", store.Range{Off: 10, Len: 1}, ""},
		{"empty", "empty", store.Range{}, ""},
		{"empty, range", "empty", store.Range{Len: 5}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, info, err := read(t.Context(), web, tt.object, tt.r)
			if err != nil || got != tt.want {
				t.Fatalf("got %q, error %v; want %q", got, err, tt.want)
			}
			size := int64(len(content))
			if tt.object == "empty" {
				size = 0
			}
			if info.Size != size {
				t.Errorf("size %d, want %d", info.Size, size)
			}
		})
	}
}

func TestStat(t *testing.T) {
	handler := nethttp.FileServerFS(fstest.MapFS{"file": {Data: []byte("0123456789"), ModTime: modified}})
	noHead := false
	web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if noHead && r.Method == "HEAD" {
			nethttp.Error(w, "no", nethttp.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("ETag", `"tag"`)
		handler.ServeHTTP(w, r)
	}).URL, http.Options{})
	for _, noHead = range []bool{false, true} {
		info, err := web.Stat(t.Context(), "file")
		if want := (store.Info{Size: 10, Tag: `"tag"`, ModTime: modified}); err != nil || info != want {
			t.Errorf("without HEAD %v: got %+v, error %v; want %+v", noHead, info, err, want)
		}
		if _, err := web.Stat(t.Context(), "none"); !errors.Is(err, store.ErrMissing) {
			t.Errorf("without HEAD %v: got %v, want ErrMissing", noHead, err)
		}
	}
}

func TestNames(t *testing.T) {
	var asked atomic.Value
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) { asked.Store(r.RequestURI) })
	tests := []struct{ base, name, want string }{
		{"", "file", "/file"},
		{"/", "file", "/file"},
		{"/a//b//", "1a2b/1a2b.cacnk", "/a//b/1a2b/1a2b.cacnk"},
		{"/my images", "a b", "/my%20images/a%20b"},
		{"/a%2Fb", "100%.img", "/a%2Fb/100%25.img"},
		{"/d", "a#b?c;d&e+f", "/d/a%23b%3Fc;d&e+f"},
		{"/d?key=1&b", "é", "/d/%C3%A9?key=1&b"},
		{"/d?a b+c%20d", "file", "/d/file?a%20b+c%20d"},
	}
	for _, tt := range tests {
		web := newWeb(t, server.URL+tt.base, http.Options{})
		if _, _, err := read(t.Context(), web, tt.name, store.Range{}); err != nil || asked.Load() != tt.want {
			t.Errorf("%q in %q: asked for %q, error %v; want %q", tt.name, tt.base, asked.Load(), err, tt.want)
		}
	}
	web := newWeb(t, server.URL, http.Options{})
	for _, name := range []string{"", ".", "..", "../file", "/file", "a//b", "a/./b", "dir/"} {
		if _, _, err := web.Open(t.Context(), name, store.Range{}); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%q: got %v, want ErrRefused", name, err)
		}
	}
}

func TestObject(t *testing.T) {
	var asked atomic.Value
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) { asked.Store(r.RequestURI) })
	tests := []struct{ path, name, aside string }{
		{"/d/img.caibx?x=1", "img.caibx", "/d/img.caibx.tree?x=1"},
		{"/img.caibx", "img.caibx", "/img.caibx.tree"},
		{"/d/a%2Bb+c%20d.caibx", "a+b+c d.caibx", "/d/a%2Bb+c%20d.caibx.tree"},
		{"/d/a%2Fb", "a/b", "/d/a%2Fb.tree"},
		{"/d/v;1", "v;1", "/d/v;1.tree"},
	}
	for _, tt := range tests {
		web, name, err := http.Object(server.URL+tt.path, http.Options{})
		if err != nil || name != tt.name {
			t.Errorf("%s: got %q, error %v; want %q", tt.path, name, err, tt.name)
			continue
		}
		if _, _, err := read(t.Context(), web, name, store.Range{}); err != nil || asked.Load() != tt.path {
			t.Errorf("%s: asked for %q, error %v", tt.path, asked.Load(), err)
		}
		if _, _, err := read(t.Context(), web, name+".tree", store.Range{}); err != nil || asked.Load() != tt.aside {
			t.Errorf("%s: beside it asked for %q, error %v; want %q", tt.path, asked.Load(), err, tt.aside)
		}
		if _, _, err := read(t.Context(), web, "other", store.Range{}); err != nil || !strings.Contains(asked.Load().(string), "/other") {
			t.Errorf("%s: another file: asked for %q, error %v", tt.path, asked.Load(), err)
		}
	}
}

// What is wrong with a URL is said without its secrets.
func TestBadURLs(t *testing.T) {
	tests := []struct{ location, want string }{
		{"ftp://user:secret@h/x", "ftp://h/x: not an http or https URL"},
		{"http:///x", "http:///x: names no host"},
		{"http://user:secret@h/100%.img?secret", "http://h/100%.img: a % in a URL is written %25"},
		{"http://user:secret?a@h/x", "http://h/x: malformed URL"},
		{"http://h/x#secret", "http://h/x: a # in a URL is written %23"},
		{"http://h/d/?secret", "http://h/d/: names a folder, not a file"},
		{"http://h", "http://h: names a folder, not a file"},
	}
	for _, tt := range tests {
		if _, _, err := http.Object(tt.location, http.Options{}); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.location, err, tt.want)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		user, password, _ := r.BasicAuth()
		if user != "user" || password != "secret" || r.URL.RawQuery != "key=secret" {
			t.Errorf("got %s, user %q, password %q", r.RequestURI, user, password)
		}
		switch r.URL.Path {
		case "/d/loop":
			nethttp.Redirect(w, r, r.RequestURI, nethttp.StatusFound)
		case "/d/die":
			panic(nethttp.ErrAbortHandler)
		default:
			nethttp.NotFound(w, r)
		}
	})
	base := strings.Replace(server.URL, "http://", "http://user:secret@", 1)
	web := newWeb(t, base+"/d?key=secret", http.Options{})
	shown := []string{web.String(), web.Locate("name")}
	for _, name := range []string{"none", "loop", "die"} {
		_, _, err := web.Open(t.Context(), name, store.Range{})
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		shown = append(shown, err.Error())
	}
	for _, text := range shown {
		if strings.Contains(text, "secret") || !strings.HasPrefix(text, server.URL+"/d") {
			t.Errorf("%q: want it to begin with %s/d and to hide the secret", text, server.URL)
		}
	}
}

// A thousand chunks travel over no more connections than there are requests in
// flight; the dialer may open a few that it then does not need.
func TestConnectionsAreReused(t *testing.T) {
	const inFlight, gets = 16, 1000
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "chunk"), bytes.Repeat([]byte("x"), 40_000), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	web := newWeb(t, o.URL(), http.Options{})
	get := func(i int) {
		name, r := "chunk", store.Range{}
		switch i % 4 {
		case 1:
			name = "none" // the answer's text is drained
		case 2:
			r = store.Range{Off: 100, Len: 5000}
		}
		if _, _, err := read(t.Context(), web, name, r); err != nil && name == "chunk" {
			t.Error(err)
		}
	}
	for i := range gets {
		get(i)
	}
	if n := o.Counts().Connections; n != 1 {
		t.Errorf("%d connections one after the other, want 1", n)
	}
	var all sync.WaitGroup
	for worker := range inFlight {
		all.Go(func() {
			for i := worker; i < gets; i += inFlight {
				get(i)
			}
		})
	}
	all.Wait()
	if n := o.Counts().Connections; n > 4*inFlight {
		t.Errorf("%d connections for %d in flight", n, inFlight)
	}
}

// Nobody listens: a reason to try again, not to give up.
func TestNoServer(t *testing.T) {
	server := serve(t, nil)
	server.Close()
	_, _, err := newWeb(t, server.URL, http.Options{}).Open(t.Context(), "file", store.Range{})
	if err == nil || errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrMissing) || !strings.HasPrefix(err.Error(), server.URL+"/file: dial tcp") {
		t.Errorf("got %v", err)
	}
}

// What is left of a page that says no, or of a chunk that is dropped near its
// end, does not cost a connection.
func TestRestIsDrained(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/none" {
			w.WriteHeader(nethttp.StatusNotFound)
		}
		w.Write(make([]byte, 12_000))
	}))
	server.Config.ConnState = countNew(&connections)
	server.Start()
	t.Cleanup(server.Close)
	web := newWeb(t, server.URL, http.Options{})
	for range 10 {
		if _, _, err := web.Open(t.Context(), "none", store.Range{}); !errors.Is(err, store.ErrMissing) {
			t.Fatalf("got %v, want ErrMissing", err)
		}
		body, _, err := web.Open(t.Context(), "file", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := connections.Load(); n > 10 { // on a slow day some drains take too long
		t.Errorf("%d connections, want 1", n)
	}
}

func TestHTTP2(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = countNew(&connections)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	client := http.NewClient(http.Options{})
	client.Transport.(*nethttp.Transport).TLSClientConfig = server.Client().Transport.(*nethttp.Transport).TLSClientConfig
	web := newWeb(t, server.URL, http.Options{Client: client})
	for range 3 {
		if got, _, err := read(t.Context(), web, "file", store.Range{}); err != nil || got != "HTTP/2.0" {
			t.Errorf("got %q, error %v", got, err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	plain := newWeb(t, strings.Replace(serve(t, nil).URL, "http:", "https:", 1), http.Options{})
	if _, _, err := plain.Open(t.Context(), "file", store.Range{}); !errors.Is(err, store.ErrRefused) {
		t.Errorf("no TLS there: got %v, want ErrRefused", err)
	}
	strict := newWeb(t, server.URL, http.Options{})
	if _, _, err := strict.Open(t.Context(), "file", store.Range{}); !errors.Is(err, store.ErrRefused) {
		t.Errorf("unknown certificate: got %v, want ErrRefused", err)
	}
}
