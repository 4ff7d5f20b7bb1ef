//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// forger serves a folder, and something else for one file of it, which must be
// asked for before the test ends.
func forger(t *testing.T, dir, name string, serve http.HandlerFunc) (url string) {
	t.Helper()
	var asked atomic.Bool
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.HandleFunc(name, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		serve(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections() // an endless answer
		server.Close()
		if !asked.Load() {
			t.Errorf("%s was not asked for", name)
		}
	})
	return server.URL
}

// forgeries are what a server may give for a file beside an index.
func forgeries(good, other []byte) map[string]http.HandlerFunc {
	content := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(b) }
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	return map[string]http.HandlerFunc{
		"cut":              content(good[:len(good)-1]),
		"half":             content(good[:len(good)/2]),
		"flipped":          content(flipped),
		"longer":           content(append(bytes.Clone(good), 0)),
		"of another index": content(other),
		"empty":            content(nil),
		"100 MB of zeros": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000000")
			_, _ = io.CopyN(w, zeros{}, 100_000_000)
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, zeros{})
		},
		"a good beginning, and no end": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(good)
			_, _ = io.Copy(w, zeros{})
		},
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!DOCTYPE html><title>404</title><p>Nothing here, but the status is 200.")
		},
	}
}

// most is the memory that a command has had at its largest, in bytes.
func (d *daemon) most() int64 {
	d.t.Helper()
	status := string(read(d.t, fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid)))
	_, rest, _ := strings.Cut(status, "VmHWM:")
	n, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return n << 10
}

// A side file is read to 64 MiB, in memory that grows with it.
const mostForASide = 256 << 20

// TestForgedSidecars come from the server: the tree is mounted all the same,
// with all that belongs in it, and one warning.
func TestForgedSidecars(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	other := packTree(t, caravel, randomFiles(t, 3, 5, 700), "--chunk-size=64K")
	for name, serve := range forgeries(read(t, p.index+".tree"), read(t, other.index+".tree")) {
		t.Run(name, func(t *testing.T) {
			url := forger(t, p.dir, "/tree.caidx.tree", serve)
			cache := t.TempDir()
			for i := range 2 {
				m, dir := mountedTree(t, "--cache-dir", cache, url+"/tree.caidx")
				sameTree(t, dir, p.source)
				if n := m.most(); n > mostForASide {
					t.Errorf("%d bytes of memory", n)
				}
				m.ends(syscall.SIGTERM, soon)
				said := m.stderr.String()
				if lines := strings.Count(said, "\n"); i == 0 && (lines != 1 || !strings.Contains(said, "sidecar")) {
					t.Errorf("says %q, want one line about the sidecar", said)
				} else if i > 0 && lines > 1 {
					t.Errorf("says %q, want one line at most", said)
				}
			}
		})
	}
}

// TestForgedProfiles come from the server: the image is mounted all the same.
func TestForgedProfiles(t *testing.T) {
	d, other := newDisk(t, 4<<20, "--chunk-size=64K"), newDisk(t, 3<<20, "--chunk-size=64K")
	record := func(d *disk) []byte {
		m, file := mounted(t, "--record", d.path("recorded"), d.index, t.TempDir())
		readsAt(t, file, d.data, 0, 1<<20, 2<<20)
		m.ends(syscall.SIGTERM, soon)
		return read(t, d.path("recorded"))
	}
	for name, serve := range forgeries(record(d), record(other)) {
		t.Run(name, func(t *testing.T) {
			url := forger(t, d.dir, "/disk.caibx.profile", serve)
			m, file := mounted(t, "--cache-dir", t.TempDir(), url+"/disk.caibx", t.TempDir())
			holds(t, file, d.data)
			if n := m.most(); n > mostForASide {
				t.Errorf("%d bytes of memory", n)
			}
			m.ends(syscall.SIGTERM, soon)
			if said := m.stderr.String(); strings.Count(said, "\n") > 1 || said != "" && !strings.Contains(said, "profile") {
				t.Errorf("says %q, want one line at most", said)
			}
		})
	}
}

// TestIndexChangesBetweenMounts shows the new image, and the one before where
// nobody is asked.
func TestIndexChangesBetweenMounts(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	args := []string{"--cache-dir", t.TempDir(), o.URL() + "/tree.caidx"}
	mount := func(source string, more ...string) {
		t.Helper()
		m, dir := mountedTree(t, append(more, args...)...)
		sameTree(t, dir, source)
		m.ends(syscall.SIGTERM, soon)
		if said := m.stderr.String(); said != "" {
			t.Errorf("says %s", said)
		}
	}
	mount(p.source)

	before := p.path("before")
	must(t, "cp", "-a", p.source, before)
	replace(t, p.source+"/large", []byte("another"))
	replace(t, p.source+"/dir03/file07", []byte("another, too"))
	if err := os.RemoveAll(filepath.Join(p.source, "dir05")); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--chunk-size=64K", p.index, p.source)
	mount(before, "--offline")
	mount(p.source)
	mount(p.source, "--offline")
	o.Reset()
	mount(p.source)
	wantAsked(t, "once more", o, 0, "/tree.caidx")
}
