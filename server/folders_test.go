package server_test

import (
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"caravel/server"
	"caravel/store"
)

// aFolder is one with what is served and what is not.
func aFolder(t testing.TB) (dir, chunk string) {
	t.Helper()
	outside := t.TempDir()
	dir = filepath.Join(outside, "served")
	id, _ := piece(1, 10)
	chunk = "/default.castr/" + store.Form{}.Name(id)
	for _, name := range []string{
		"disk.caibx", "disk.caibx.profile", "tree.caidx", "tree.caidx.tree", "tree.catar", "sub/disk.img", "sub/b <&>.caibx", "x:y.iso", chunk, strings.TrimSuffix(chunk, ".cacnk"),
		".hidden.caibx", ".git/x.caibx", "sub/.secret/x.img", "server.key", "server.pem", "key.img.tmp", "notes.txt", ".caibx", "a.caibx~", "disk.caibx.0123456789abcdef.tmp",
		chunk + ".0123456789abcdef.tmp", "default.castr/.tmp-cacnk.123", "default.castr/0000/" + path.Base(chunk),
		"cache/CACHEDIR.TAG", "cache/images/x.img", "../outside.caibx", "vm.overlay",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("content of "+path.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out.caibx": "../outside.caibx", "far.caibx": "/etc/passwd", "in.caibx": "disk.caibx", "loop.caibx": "loop.caibx", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	return dir, chunk
}

func folders(t testing.TB, opt server.FolderOptions, dirs ...string) http.Handler {
	t.Helper()
	h, err := server.NewFolders(dirs, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestFolders(t *testing.T) {
	dir, chunk := aFolder(t)
	h := folders(t, server.FolderOptions{}, dir)
	for target, status := range map[string]int{
		"/disk.caibx": 200, "/disk.caibx.profile": 200, "/tree.caidx": 200, "/tree.caidx.tree": 200, "/tree.catar": 200, "/sub/disk.img": 200,
		"/sub/b <&>.caibx": 200, "/x:y.iso": 200, chunk: 200, strings.TrimSuffix(chunk, ".cacnk"): 200, "/in.caibx": 200, "/": 200, "/sub/": 200, "/default.castr/": 200,
		"/sub": 301, "/default.castr": 301,
		"/.hidden.caibx": 404, "/.git/x.caibx": 404, "/.git/": 404, "/sub/.secret/x.img": 404, "/server.key": 404, "/server.pem": 404, "/key.img.tmp": 404,
		"/notes.txt": 404, "/.caibx": 404, "/a.caibx~": 404, "/disk.caibx.0123456789abcdef.tmp": 404, chunk + ".0123456789abcdef.tmp": 404,
		"/default.castr/.tmp-cacnk.123": 404, "/default.castr/0000/" + path.Base(chunk): 404, "/cache/": 404, "/cache/images/x.img": 404, "/vm.overlay": 404,
		"/out.caibx": 404, "/far.caibx": 404, "/loop.caibx": 404, "/up/": 404, "/up/outside.caibx": 404, "/none.caibx": 404, "/disk.caibx/": 404, "/disk.caibx/x.caibx": 404,
		"/../outside.caibx": 400, "/sub/../disk.caibx": 400, "/./disk.caibx": 400, "//disk.caibx": 400, "/sub//disk.img": 400, "": 400, "/..": 400, `/..\outside.caibx`: 400, "/disk.caibx\x00": 400,
	} {
		w := ask(h, "GET", target, nil)
		if w.Code != status {
			t.Errorf("%q: %d, not %d: %.60s", target, w.Code, status, w.Body)
		}
		keep := w.Header().Get("Cache-Control")
		if want := map[bool]string{true: "public, max-age=31536000, immutable", false: "no-cache"}[strings.Contains(target, "castr/") && status == 200 && !strings.HasSuffix(target, "/")]; status == 200 && keep != want {
			t.Errorf("%q: %q", target, keep)
		}
	}
	if w := ask(h, "PUT", "/disk.caibx", strings.NewReader("")); w.Code != 405 {
		t.Errorf("PUT: %d", w.Code)
	}
	if w := ask(h, "GET", "/sub", nil); w.Header().Get("Location") != "/sub/" {
		t.Errorf("on to %q", w.Header().Get("Location"))
	}
}

func TestListing(t *testing.T) {
	dir, chunk := aFolder(t)
	h := folders(t, server.FolderOptions{}, dir)
	for folder, want := range map[string]string{
		"/":                    "default.castr/ disk.caibx disk.caibx.profile in.caibx sub/ tree.caidx tree.caidx.tree tree.catar x:y.iso",
		"/sub/":                "b <&>.caibx disk.img",
		path.Dir(chunk) + "/":  strings.TrimSuffix(path.Base(chunk), ".cacnk") + " " + path.Base(chunk),
		"/default.castr/0000/": "",
	} {
		body := ask(h, "GET", folder, nil).Body.String()
		var names []string
		for line := range strings.Lines(body) {
			if _, rest, ok := strings.Cut(line, `<a href="./`); ok {
				link, _, _ := strings.Cut(rest, `"`)
				name, err := url.PathUnescape(strings.ReplaceAll(link, "&amp;", "&"))
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, not %q", folder, got, want)
		}
		if strings.Contains(body, "<&>") {
			t.Error("a name is taken for HTML")
		}
	}
}

// TestUnion has what is in several folders, and more names, and other chunks.
func TestUnion(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{filepath.Join(first, "a.caibx"): "1", filepath.Join(second, "a.caibx"): "2", filepath.Join(second, "b.txt"): "2", filepath.Join(second, "id_rsa"): "2"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	others := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) })
	h := folders(t, server.FolderOptions{Also: []string{"*.txt", "id*"}, Chunks: others}, first, second)
	id, _ := piece(1, 10)
	name := "/" + store.Form{}.Name(id)
	for target, want := range map[string]string{"/a.caibx": "1", "/b.txt": "2", "/any/default.castr" + name: name, name: name, "/id_rsa": "not here\n"} {
		if got := ask(h, "GET", target, nil).Body.String(); got != want {
			t.Errorf("%s: %q, not %q", target, got, want)
		}
	}
	if _, err := server.NewFolders([]string{first}, server.FolderOptions{Also: []string{"["}}); err == nil {
		t.Error("no pattern, and no error")
	}
	if _, err := server.NewFolders([]string{filepath.Join(first, "none")}, server.FolderOptions{}); err == nil {
		t.Error("no folder, and no error")
	}
}

// FuzzPaths finds no path by which anything is served that should not be.
func FuzzPaths(f *testing.F) {
	dir, chunk := aFolder(f)
	h := folders(f, server.FolderOptions{}, dir)
	chunks := server.NewChunks(failing{store.ErrMissing}, server.ChunkOptions{})
	indexes, err := server.NewIndexes(failingBlobs{}, server.IndexOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []string{"/", "/disk.caibx", "/sub/", "/../outside.caibx", "/up/outside.caibx", "/cache/images/x.img", chunk, "//", "/.git/x.caibx", "/sub/../../outside.caibx", "/sub/b <&>.caibx"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		w := ask(h, "GET", p, nil)
		if body := w.Body.String(); w.Code == 200 {
			name := path.Base(p)
			for _, bad := range []string{"hidden", "key", "outside", "root:", "tmp", "notes", "TAG", "x.img", "overlay"} {
				if strings.Contains(body, bad) && !strings.HasSuffix(p, "/") {
					t.Errorf("%q gave %q", p, body)
				}
			}
			if !strings.HasSuffix(p, "/") && name != "in.caibx" && body != "content of "+name {
				t.Errorf("%q gave %q", p, body)
			}
		}
		if w := ask(chunks, "GET", p, nil); w.Code != 400 && w.Code != 404 {
			t.Errorf("%q: %d", p, w.Code)
		}
		if w := ask(indexes, "GET", p, nil); w.Code != 400 && w.Code != 404 {
			t.Errorf("%q: %d", p, w.Code)
		}
	})
}
