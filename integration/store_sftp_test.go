//go:build linux

package integration

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/sftp"
	"caravel/store/storetest"
)

// folder is a place that a server serves, and its URL.
func (s *sshd) folder(t testing.TB) (dir, url string) {
	dir = t.TempDir()
	return dir, s.url + dir
}

// scatter writes objects below a folder, as somebody has done a day ago.
func scatter(t testing.TB, dir string, objects map[string][]byte) {
	t.Helper()
	for name, b := range objects {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-24 * time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSFTP runs the suite of backends over ssh.
func TestSFTP(t *testing.T) {
	s := startSSH(t)
	hosts := sftp.NewHosts()
	t.Cleanup(func() {
		if err := hosts.Close(); err != nil {
			t.Error(err)
		}
	})
	storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
		dir, url := s.folder(t)
		scatter(t, dir, objects)
		d, err := sftp.New(url, sftp.Options{Hosts: hosts, SSH: s.ssh})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// TestSFTPImages makes images whose chunks, index and sidecar lie behind ssh, and
// uses them there.
func TestSFTPImages(t *testing.T) {
	s := startSSH(t)
	dir, url := s.folder(t)
	usesImages(t, s.server(), dir, url)
	if left := leftovers(t, dir, "disk.caibx", "tree.caidx", "tree.caidx.tree"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestSFTPSessionsDie while a mounted image is read: no reader hears of it.
func TestSFTPSessionsDie(t *testing.T) {
	needFUSE(t)
	s := startSSH(t)
	dir, url := s.folder(t)
	d := newDisk(t, 3_000_001)
	must(t, "cp", "-r", d.index, d.store, dir)
	mnt := t.TempDir()
	m := startWith(t, s.known, caravel, "mount", "--no-sweep", url+"/disk.caibx", mnt)
	m.expect("Mounted: ")
	file, err := os.Open(filepath.Join(mnt, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	killed := 0
	buf := make([]byte, 100_000)
	for off := 0; off < len(d.data); off += len(buf) {
		if off%500_000 == 0 {
			killed += bereave(t, m.cmd.Process.Pid)
		}
		n, err := file.ReadAt(buf, int64(off))
		if err != nil && err != io.EOF || string(buf[:n]) != string(d.data[off:min(off+len(buf), len(d.data))]) {
			t.Fatalf("offset %d: %d bytes, %v", off, n, err)
		}
	}
	if killed == 0 {
		t.Error("no session was killed")
	}
	file.Close()
	m.ends(syscall.SIGTERM, soon)
}

// TestSFTPRefusals are one line each, at once: of a server that takes nothing, of one
// that has nothing, and of a password in a URL.
func TestSFTPRefusals(t *testing.T) {
	d := newDisk(t, 100_000)
	began := time.Now()
	t.Run("read-only", func(t *testing.T) {
		s := startSSH(t, "-R")
		dir, url := s.folder(t)
		complaint(t, s.caravel("make", "--progress=none", "--store", url+"/default.castr", d.path("new.caibx"), d.image), url+"/default.castr", "permits it not")
		if got := s.must("cat", s.url+d.index); got != string(d.data) {
			t.Errorf("%d bytes", len(got))
		}
		if left := leftovers(t, dir); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
	t.Run("missing", func(t *testing.T) {
		s := startSSH(t)
		complaint(t, s.caravel("cat", s.url+"/nowhere/disk.caibx"), s.url+"/nowhere/disk.caibx", "not there")
	})
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("took %v", took)
	}
	complaint(t, run(t, caravel, "cat", "sftp://me:secret@127.0.0.1/disk.caibx"), "ssh takes no password from a URL")
}

// server is what usesImages needs of one.
func (s *sshd) server() imageServer {
	return imageServer{s.must, func(args ...string) *daemon {
		return startWith(s.t, s.known, caravel, args...)
	}}
}
