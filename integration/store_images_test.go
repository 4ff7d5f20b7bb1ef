//go:build linux

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// An imageServer is how commands reach a server of images.
type imageServer struct {
	must  func(args ...string) string
	start func(args ...string) *daemon
}

// usesImages makes a disk and a tree whose chunks, indexes and sidecar lie behind a
// server, and uses them in every way: url is the folder that is dir on this machine.
func usesImages(t *testing.T, s imageServer, dir, url string) {
	t.Helper()
	d := newDisk(t, 1_000_001, "--no-store")
	s.must("make", "--chunk-size=4K", "--store", url+"/default.castr", d.path("made.caibx"), d.image)
	tree := t.TempDir()
	smallFiles(t)(tree)
	s.must("make", "--chunk-size=4K", "--store", url+"/default.castr", d.path("tree.caidx"), tree)
	must(t, "cp", d.path("made.caibx"), filepath.Join(dir, "disk.caibx"))
	must(t, "cp", d.path("tree.caidx"), d.path("tree.caidx.tree"), dir)
	if !bytes.Equal(read(t, d.path("made.caibx")), read(t, d.index)) {
		t.Error("another index than without a server")
	}

	t.Run("read", func(t *testing.T) {
		if got := s.must("cat", "--offset=1234", "--length=100000", url+"/disk.caibx"); got != string(d.data[1234:101234]) {
			t.Error("cat: other bytes")
		}
		out := filepath.Join(t.TempDir(), "out")
		s.must("extract", url+"/disk.caibx", out)
		holds(t, out, d.data)
		copied := filepath.Join(t.TempDir(), "tree")
		s.must("extract", url+"/tree.caidx", copied)
		sameTree(t, copied, tree)
		if got, want := s.must("digest", url+"/tree.caidx"), must(t, caravel, "digest", filepath.Join(dir, "tree.caidx")); got != want {
			t.Errorf("digest %s, want %s", got, want)
		}
	})
	t.Run("mount", func(t *testing.T) {
		needFUSE(t)
		mnt := t.TempDir()
		m := s.start("mount", url+"/disk.caibx", mnt)
		m.expect("Mounted: ")
		holds(t, filepath.Join(mnt, "disk"), d.data)
		m.ends(syscall.SIGTERM, soon)
		m = s.start("mount", url+"/tree.caidx", mnt)
		m.expect("Mounted: ")
		sameTree(t, mnt, tree)
		m.ends(syscall.SIGTERM, soon)
	})
	t.Run("mkdev", func(t *testing.T) {
		needLoop(t)
		m := s.start("mkdev", "--via=loop", url+"/disk.caibx")
		device := m.expect("Attached: ")
		f, err := os.Open(device)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make([]byte, len(d.data))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, d.data) {
			t.Errorf("the device has other bytes, %v", err)
		}
		f.Close()
		m.ends(syscall.SIGTERM, soon)
		if isAttached(device) {
			t.Errorf("%s is still attached", device)
		}
	})
	t.Run("cached", func(t *testing.T) { // by the index's tag
		cache := t.TempDir()
		for _, n := range []int{10, 20} {
			if got := s.must("cat", "--cache-dir", cache, "--length="+strconv.Itoa(n), url+"/disk.caibx"); got != string(d.data[:n]) {
				t.Errorf("%q", got)
			}
		}
	})
}
