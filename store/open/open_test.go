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

	nethttp "net/http"

	"caravel/chunker"
	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/open"
)

func TestDefaultStore(t *testing.T) {
	tests := []struct{ index, want string }{
		{"x.caibx", "default.castr"},
		{"./x.caibx", "./default.castr"},
		{"/srv/images/x.caibx", "/srv/images/default.castr"},
		{"/x.caibx", "/default.castr"},
		{"a:b/x.caibx", "a:b/default.castr"},
		{"host:x.caibx", "host:default.castr"},
		{"user@host:/srv/x.caibx", "user@host:/srv/default.castr"},
		{"-", "default.castr"},
		{"http://h/d/img.caibx?x=1", "http://h/d/default.castr"},
		{"http://h/d/img.caibx?x=a/b", "http://h/d/default.castr"},
		{"http://h/d/img.caibx;v=1", "http://h/d/default.castr"},
		{"http://h/img.caibx", "http://h/default.castr"},
		{"http://h", "http://h/default.castr"},
		{"http://h?x", "http://h/default.castr"},
		{"https://user:a;b@h/d//img.caibx", "https://user:a;b@h/d//default.castr"},
		{"file:///srv/a;b?c/x.caibx", "file:///srv/a;b?c/default.castr"},
		{"s3+https://h/bucket/x.caibx", "s3+https://h/bucket/default.castr"},
		{"s3+https://h/bucket/d/x.caibx?lookup=dns&region=r", "s3+https://h/bucket/d/default.castr?lookup=dns&region=r"},
		{"s3://bucket/x.caibx?region=a/b", "s3://bucket/default.castr?region=a/b"},
	}
	t.Setenv("CASYNC_STORE", "")
	for _, tt := range tests {
		if got := open.DefaultStore(tt.index); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.index, got, tt.want)
		}
	}
	t.Setenv("CASYNC_STORE", "/srv/all.castr")
	if got := open.DefaultStore("http://h/img.caibx"); got != "/srv/all.castr" {
		t.Errorf("got %s, want $CASYNC_STORE", got)
	}
}

func TestObject(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.WriteString(w, r.RequestURI)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"a b.caibx", "host:img", "100%.caibx"} {
		if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a b.caibx", "latest"); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ location, name, content string }{
		{"a b.caibx", "a b.caibx", "a b.caibx"},
		{"./host:img", "host:img", "host:img"},
		{dir + "/100%.caibx", "100%.caibx", "100%.caibx"},
		{"latest", "latest", "a b.caibx"},
		{"file://" + dir + "/a%20b.caibx", "a b.caibx", "a b.caibx"},
		{"FILE://localhost" + dir + "/100%25.caibx", "100%.caibx", "100%.caibx"},
		{server.URL + "/d/img%20a.caibx?x=1", "img a.caibx", "/d/img%20a.caibx?x=1"},
	}
	for _, tt := range tests {
		b, name, err := open.Object(tt.location, open.Options{})
		if err != nil || name != tt.name {
			t.Errorf("%s: got name %q, error %v; want %q", tt.location, name, err, tt.name)
			continue
		}
		body, _, err := b.Open(t.Context(), name, store.Range{})
		if err != nil {
			t.Errorf("%s: %v", tt.location, err)
			continue
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != tt.content {
			t.Errorf("%s: got %q, error %v; want %q", tt.location, got, err, tt.content)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		content, err := open.Read(t.Context(), tt.location, 100, open.Options{})
		if err != nil || string(content) != tt.content {
			t.Errorf("Read %s: got %q, error %v", tt.location, content, err)
		}
	}
}

func TestRefusedLocations(t *testing.T) {
	tests := []struct{ location, want string }{
		{"", "a location is empty"},
		{"-", "standard input cannot serve here"},
		{"host:", "ssh: host:: names no path behind the host"},
		{"-host:x", "names no host"},
		{"ssh://user:secret@h/x", "ssh takes no password from a URL"},
		{"ssh://h/", "names a folder, not a file"},
		{"rsync://key:secret@h/folder/x?secret", "open: rsync://h/folder/x: rsync:// is not supported, and there is no casync-rsync in $CASYNC_PROTOCOL_PATH; a path, file://, http://, https://, "},
		{"s3+https://key:secret@h/bucket/x", "s3: s3+https://h/bucket/x: keys do not belong into a URL"},
		{"s3://bucket", "names a bucket, not an object in it"},
		{"file://elsewhere/x", "a file URL is file:///path, of this machine"},
		{"file:///100%", "a % in a URL is written %25"},
		{"file:///a%00b", "no path has a NUL"},
		{"/srv/", "names a folder, not a file"},
		{"..", "names a folder, not a file"},
		{"http://h/d/", "names a folder, not a file"},
		{"http://user:secret@/x", "names no host"},
	}
	for _, tt := range tests {
		_, _, err := open.Object(tt.location, open.Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want %q in it", tt.location, err, tt.want)
		}
	}
}

// put fills a new store with one chunk.
func put(t *testing.T, location string, form store.Form, content string) store.Want {
	t.Helper()
	w, err := open.Writer(location, open.Options{Form: form})
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewChunk(chunker.SHA512_256.Sum([]byte(content)), chunker.SHA512_256, []byte(content), nil)
	defer c.Release()
	if err := w.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return store.Want{ID: c.ID(), Size: len(content)}
}

func check(t *testing.T, s store.Store, want store.Want, content string) {
	t.Helper()
	c, err := s.Get(t.Context(), want)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Release()
	if got, err := c.Plain(); err != nil || string(got) != content || !c.Verified() {
		t.Errorf("got %q (verified: %v), error %v; want %q", got, c.Verified(), err, content)
	}
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	near, plain := filepath.Join(dir, "near.castr"), filepath.Join(dir, "plain.castr")
	want := put(t, near, store.Form{}, "near")
	wantPlain := put(t, "file://"+plain, store.Form{Compression: store.None}, "plain")
	o, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	far := o.URL() + "/near.castr"

	var origins []open.Origin
	opt := open.Options{Wrap: func(s store.Store, o open.Origin) store.Store {
		origins = append(origins, o)
		return store.Verify(s)
	}}
	for _, location := range []string{near, "file://" + near, far, far + "/", far + "?key=1", far + ";key=1",
		plain + "|" + near, o.URL() + "/none|" + far} {
		for _, opt := range []open.Options{opt, {}} {
			s, err := open.Store(location, opt)
			if err != nil {
				t.Errorf("%s: %v", location, err)
				continue
			}
			check(t, s, want, "near")
		}
	}
	wantOrigins := []open.Origin{{near, near, false, nil}, {"file://" + near, near, false, nil}, {far, far, true, nil}, {far + "/", far, true, nil},
		{far + "?key=1", far, true, nil}, {far + ";key=1", far, true, nil},
		{plain, plain, false, nil}, {near, near, false, nil}, {o.URL() + "/none", o.URL() + "/none", true, nil}, {far, far, true, nil}}
	if fmt.Sprint(origins) != fmt.Sprint(wantOrigins) {
		t.Errorf("wrapped %v, want %v", origins, wantOrigins)
	}

	s, err := open.Store(plain, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, wantPlain, "plain")
}

// What is said of one location counts there, and nowhere else.
func TestAdjust(t *testing.T) {
	var asked []open.Place
	headers := map[string]string{}
	server := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		headers[r.URL.Path] = r.Header.Get("X-For")
	}))
	defer server.Close()
	no := errors.New("configured wrongly")
	opt := open.Options{Adjust: func(at open.Place, opt open.Options) (open.Options, error) {
		asked = append(asked, at)
		if strings.HasSuffix(at.Location, "/wrong") {
			return opt, no
		}
		opt.HTTP.Header = nethttp.Header{"X-For": {at.Location}}
		return opt, nil
	}}
	for _, name := range []string{"/a", "/b"} {
		if _, err := open.Read(t.Context(), server.URL+name, 10, opt); err != nil {
			t.Error(err)
		}
		if headers[name] != server.URL+name {
			t.Errorf("%s: adjusted for %q", name, headers[name])
		}
	}
	if _, err := open.Store(server.URL+"/c|"+server.URL+"/d", opt); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"/wrong", "/a|" + server.URL + "/wrong"} {
		if _, err := open.Store(server.URL+name, opt); !errors.Is(err, no) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := open.Object(server.URL+"/wrong", opt); !errors.Is(err, no) {
		t.Error(err)
	}
	if len(asked) != 8 || !asked[0].File || asked[2].File {
		t.Errorf("asked for %v", asked)
	}
}

func TestStoreRefused(t *testing.T) {
	dir := t.TempDir()
	none, file := filepath.Join(dir, "none.castr"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ location, want string }{
		{none, none + ": no such store; name one with --store"},
		{"http://h/x|" + none, "no such store"},
		{file, "not a directory"},
		{"http://h/x|", "a location is empty"},
		{"rsync://bucket", "rsync:// is not supported"},
		{"http://h/%zz", "a % in a URL is written %25"},
	}
	for _, tt := range tests {
		if _, err := open.Store(tt.location, open.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.location, err, tt.want)
		}
	}
	for _, location := range []string{dir + "|" + none, "rsync://host/x", ""} {
		if _, err := open.Writer(location, open.Options{}); err == nil {
			t.Errorf("%s: can be written to", location)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, location := range []string{path, o.URL() + "/file", "-"} {
		read := func(limit int64) ([]byte, error) {
			opt := open.Options{Stdin: strings.NewReader("0123456789")}
			return open.Read(t.Context(), location, limit, opt)
		}
		if got, err := read(10); err != nil || string(got) != "0123456789" {
			t.Errorf("%s: got %q, error %v", location, got, err)
		}
		if got, err := read(9); err == nil || !strings.Contains(err.Error(), location+": more than 9 bytes") {
			t.Errorf("%s: got %q, error %v; want a limit", location, got, err)
		}
	}
	for _, location := range []string{path + "2", o.URL() + "/file2"} {
		if _, err := open.Read(t.Context(), location, 1, open.Options{}); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", location, err)
		}
	}
	if _, err := open.Read(t.Context(), dir, 1, open.Options{}); err == nil || !strings.Contains(err.Error(), "a folder, not a file") {
		t.Errorf("folder: got %v", err)
	}
}

// A path may be a pipe.
func TestReadPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(w, "through a pipe"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skip("no /dev/fd")
	}
	if got, err := open.Read(t.Context(), path, 100, open.Options{}); err != nil || !bytes.Equal(got, []byte("through a pipe")) {
		t.Errorf("got %q, error %v", got, err)
	}
}

func TestBeside(t *testing.T) {
	tests := []struct{ index, want string }{
		{"img.caidx", "img.caidx.tree"},
		{"/d/img.caidx", "/d/img.caidx.tree"},
		{"./a:b?c.caidx", "./a:b?c.caidx.tree"},
		{"-", ""},
		{"", ""},
		{"file:///d/img?.caidx", "file:///d/img?.caidx.tree"},
		{"http://h/img.caidx", "http://h/img.caidx.tree"},
		{"https://u:p@h:1/d/img.caidx?key=/a?b", "https://u:p@h:1/d/img.caidx.tree?key=/a?b"},
		{"http://h/v;1.caidx", "http://h/v;1.caidx.tree"},
	}
	for _, tt := range tests {
		if got := open.Beside(tt.index, ".tree"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.index, got, tt.want)
		}
	}
}

func ExampleDefaultStore() {
	fmt.Println(open.DefaultStore("https://example.com/images/disk.caibx?version=3"))
	// Output: https://example.com/images/default.castr
}

func ExampleBeside() {
	fmt.Println(open.Beside("https://example.com/images/tree.caidx?token=1", ".tree"))
	// Output: https://example.com/images/tree.caidx.tree?token=1
}
