//go:build linux

package integration

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestIndexServer gives indexes, and takes them from who may write.
func TestIndexServer(t *testing.T) {
	d := newDisk(t, 300_000)
	put(t, d.path("key.caibx"), []byte("-----BEGIN PRIVATE KEY-----"))
	_, url := startServer(t, "index-server", "--store", d.dir)
	if got := must(t, caravel, "list-chunks", url+"disk.caibx"); got != must(t, caravel, "list-chunks", d.index) {
		t.Error("other chunks")
	}
	for _, name := range []string{"none.caibx", "key.caibx", "disk.img", "default.castr"} {
		if resp, b := answered(t, "GET", url+name, nil); resp.StatusCode != 404 {
			t.Errorf("%s: %d %.50s", name, resp.StatusCode, b)
		}
	}
	if resp, _ := answered(t, "PUT", url+"new.caibx", bytes.NewReader(read(t, d.index))); resp.StatusCode != 400 {
		t.Errorf("PUT: %d", resp.StatusCode)
	}

	dir := t.TempDir()
	server, url := startServer(t, "index-server", "--store", dir, "-w", "--users", users(t, d))
	for _, tt := range []struct {
		name, path string
		body       []byte
		user       string
		status     int
	}{
		{"a stranger", "a/x.caibx", read(t, d.index), "anna:wrong", 401},
		{"no index", "a/x.caibx", read(t, d.image), "anna:secret", 415},
		{"an index", "a/x.caibx", read(t, d.index), "anna:secret", 200},
		{"hidden", ".x.caibx", read(t, d.index), "anna:secret", 400},
	} {
		at := strings.Replace(url, "://", "://"+tt.user+"@", 1) + tt.path
		if resp, b := answered(t, "PUT", at, bytes.NewReader(tt.body)); resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", tt.name, resp.StatusCode, b)
		}
	}
	holds(t, filepath.Join(dir, "a/x.caibx"), read(t, d.index))
	if resp, _ := answered(t, "GET", strings.Replace(url, "://", "://anna:secret@", 1)+"b/x.caibx", nil); resp.StatusCode != 404 {
		t.Errorf("another folder: %d", resp.StatusCode)
	}
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	if peer := os.Getenv("DESYNC"); peer != "" {
		_, url := startServer(t, "index-server", "--store", dir, "-w")
		must(t, peer, "make", url+"desync.caibx", d.image)
		if got, want := must(t, peer, "list-chunks", url+"desync.caibx"), must(t, peer, "list-chunks", filepath.Join(dir, "desync.caibx")); got != want {
			t.Error("desync lists other chunks")
		}
		must(t, peer, "extract", "-s", d.store, url+"a/x.caibx", d.path("out"))
		holds(t, d.path("out"), d.data)
	}
}

// TestServe has a folder read in every way, and nothing of it that is not for others.
func TestServe(t *testing.T) {
	d := newDisk(t, 1_000_001)
	put(t, d.path(".secret"), []byte("secret"))
	put(t, d.path("server.key"), []byte("secret"))
	server, url := startServer(t, "serve", d.dir, "--nbd", "0")
	uri := server.expect("Serving: ")
	out := filepath.Join(t.TempDir(), "out")
	must(t, caravel, "extract", url+"disk.caibx", out)
	holds(t, out, d.data)
	_, page := answered(t, "GET", url, nil)
	for _, name := range []string{"disk.caibx", "disk.img", "default.castr/"} {
		if filepath.Base(d.image) == "disk.img" && !strings.Contains(string(page), ">"+name+"<") {
			t.Errorf("%s is not listed: %s", name, page)
		}
	}
	for _, name := range []string{".secret", "server.key"} {
		if resp, _ := answered(t, "GET", url+name, nil); resp.StatusCode != 404 || strings.Contains(string(page), name) {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	t.Run("nbd", func(t *testing.T) {
		need(t, "nbdcopy")
		must(t, "nbdcopy", uri, out+".nbd")
		holds(t, out+".nbd", d.data)
	})
	t.Run("mount", func(t *testing.T) {
		needFUSE(t)
		dir := t.TempDir()
		m := start(t, caravel, "mount", url+"disk.caibx", dir)
		m.expect("Mounted: ")
		holds(t, filepath.Join(dir, "disk"), d.data)
		if status := m.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("status %d: %s", status, m.stderr)
		}
	})
	if status := server.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
}

// TestServeBehindNginx has a cache in front, which asks for a chunk once and then never
// again, and for an index each time. Of two who ask it at once, as who hedges does, one
// waits.
func TestServeBehindNginx(t *testing.T) {
	d := newDisk(t, 500_000)
	log := d.path("log")
	_, url := startServer(t, "serve", d.dir, "--log", log)
	n := startNginx(t, t.TempDir(), false, "location / { proxy_pass "+url+"; proxy_cache all; proxy_cache_lock on; proxy_cache_revalidate on; proxy_http_version 1.1; }")
	out := filepath.Join(t.TempDir(), "out")
	for range 2 {
		must(t, caravel, "extract", n.url+"/disk.caibx", out)
		holds(t, out, d.data)
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
	}
	asked := map[string]int{}
	for line := range strings.Lines(string(read(t, log))) {
		_, uri, _ := strings.Cut(line, "Request: GET ")
		uri, status, ok := strings.Cut(uri, ", Response: ")
		if !ok {
			t.Errorf("%q", line)
		}
		asked[uri+" "+strings.TrimSpace(status)]++
	}
	for _, p := range d.chunks(t) {
		if got := asked[p.file("/default.castr")+" 200"]; got != 1 {
			t.Errorf("%s was asked for %d times", p.ID, got)
		}
	}
	if got := asked["/disk.caibx 200"] + asked["/disk.caibx 304"]; got < 2 {
		t.Errorf("the index was asked for %d times", got)
	}
}

// TestServeInFront takes what it has not from elsewhere, into a store of its own, once.
func TestServeInFront(t *testing.T) {
	d := newDisk(t, 300_000)
	n := startNginx(t, d.dir, false)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "disk.caibx"), read(t, d.index))
	near := filepath.Join(dir, "default.castr")
	_, url := startServer(t, "serve", dir, "--store", n.url+"/default.castr", "--cache", near)
	for range 2 {
		out := filepath.Join(t.TempDir(), "out")
		must(t, caravel, "extract", url+"disk.caibx", out)
		holds(t, out, d.data)
	}
	if got, want := len(n.end()), len(d.chunks(t)); got != want {
		t.Errorf("%d requests for %d chunks", got, want)
	}
	if resp, b := answered(t, "GET", url+"metrics", nil); resp.StatusCode != 200 || !bytes.Contains(b, []byte(`caravel_store_chunks_total{store="`+n.url)) {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

// TestServePassed serves on sockets that a service manager passes.
func TestServePassed(t *testing.T) {
	need(t, "systemd-socket-activate", "nbdcopy")
	d := newDisk(t, 100_000)
	web, disks := freePort(t), freePort(t)
	start(t, "systemd-socket-activate", "-l", web, "-l", disks, "--fdname=web:nbd", caravel, "serve", d.dir, "--nbd", "1")
	var body []byte
	eventually(t, "it answers", func() bool {
		resp, err := http.Get("http://" + web + "/disk.caibx")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		return err == nil
	})
	if !bytes.Equal(body, read(t, d.index)) {
		t.Errorf("%d bytes", len(body))
	}
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", "nbd://"+disks, out)
	holds(t, out, d.data)
}
