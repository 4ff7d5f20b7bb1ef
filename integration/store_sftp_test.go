//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/open"
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
	t.Run("thousand", func(t *testing.T) {
		dir, url := s.folder(t)
		scatter(t, dir, map[string][]byte{"x": make([]byte, 20_000)})
		d, err := sftp.New(url, sftp.Options{Hosts: hosts, SSH: s.ssh})
		if err != nil {
			t.Fatal(err)
		}
		thousandReads(t, d, "x", 20_000)
	})
}

// thousandReads reads an object a thousand times at once.
func thousandReads(t *testing.T, b store.Blobs, name string, size int) {
	t.Helper()
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			body, _, err := b.Open(t.Context(), name, store.Range{})
			if err != nil {
				t.Error(err)
				return
			}
			defer body.Close()
			if n, err := io.Copy(io.Discard, body); n != int64(size) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
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

// TestSFTPKilledMake leaves chunks behind that are all right, and the next run makes
// the rest.
func TestSFTPKilledMake(t *testing.T) {
	s := startSSH(t)
	d := newDisk(t, 4_000_000, "--no-store")
	dir, url := s.folder(t)
	for i := range times(4, 40) {
		m := startWith(t, s.known, caravel, "make", "--chunk-size=4K", "--store", url+"/default.castr", d.index, d.image)
		select {
		case <-m.exited:
		case <-time.After(time.Duration(100+100*i) * time.Millisecond):
		}
		if i%2 == 0 {
			_ = m.cmd.Process.Kill()
		} else {
			bereave(t, m.cmd.Process.Pid) // the far side is gone: an error, or done before that
		}
		<-m.exited
		rightChunks(t, d, filepath.Join(dir, "default.castr"))
	}
	s.must("make", "--chunk-size=4K", "--store", url+"/default.castr", d.index, d.image)
	if n := rightChunks(t, d, filepath.Join(dir, "default.castr")); n != len(d.chunks(t)) {
		t.Errorf("%d chunks, want %d", n, len(d.chunks(t)))
	}
}

// rightChunks counts the disk's chunks in a directory, all of which must be what
// their names say.
func rightChunks(t testing.TB, d *disk, dir string) (n int) {
	t.Helper()
	s, err := open.Store(dir, open.Options{})
	if errors.Is(err, store.ErrMissing) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.chunks(t) {
		if _, err := os.Stat(p.file(dir)); err != nil {
			continue
		}
		want := storetest.Want(d.data[p.Start : p.Start+p.Size])
		c, err := s.Get(context.Background(), want)
		if err != nil {
			t.Errorf("a chunk that is there: %v", err)
			continue
		}
		c.Release()
		n++
	}
	return n
}

// TestSFTPRefusals are one line each, at once: somebody else's key, a server that is
// another one, one that takes nothing, one with a full disk, and none at all.
func TestSFTPRefusals(t *testing.T) {
	d := newDisk(t, 100_000)
	began := time.Now()
	t.Run("key", func(t *testing.T) {
		s := startSSH(t)
		s.write(t, "me.pub", "")
		complaint(t, s.caravel("cat", s.url+d.index), s.url+d.index, "Permission denied (publickey)")
	})
	t.Run("host", func(t *testing.T) {
		s := startSSH(t)
		s.write(t, "known", fmt.Sprintf("far %s", read(t, s.own("me.pub"))))
		complaint(t, s.caravel("cat", s.url+d.index), s.url+d.index, "Host key verification failed")
	})
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
	t.Run("full", func(t *testing.T) {
		s := startSSH(t)
		dir := smallDisk(t, 64<<10)
		complaint(t, s.caravel("make", "--timeout=2s", "--progress=none", "--store", s.url+dir+"/default.castr", d.path("new.caibx"), d.image), s.url+dir+"/default.castr", "the server says")
		eventually(t, "the server's sessions end", func() bool { return len(children(t, s.cmd.Process.Pid)) == 0 })
		if left := leftovers(t, dir); len(left) > 0 {
			t.Errorf("left %q", left)
		}
		rightChunks(t, d, filepath.Join(dir, "default.castr"))
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
