//go:build linux

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"caravel/store"
	"caravel/store/ftp"
	"caravel/store/storetest"
)

// TestFTP runs the suite of backends over FTP, without TLS and with it.
func TestFTP(t *testing.T) {
	for _, scheme := range []string{"ftp", "ftpes", "ftps"} {
		t.Run(scheme, func(t *testing.T) {
			hosts := ftp.NewHosts()
			t.Cleanup(func() {
				if err := hosts.Close(); err != nil {
					t.Error(err)
				}
			})
			var trust *tls.Config
			open := func(t *testing.T, objects map[string][]byte) store.Blobs {
				v := startFTP(t, scheme)
				if cert, ok := strings.CutPrefix(v.env, "SSL_CERT_FILE="); ok {
					roots := x509.NewCertPool()
					roots.AppendCertsFromPEM(read(t, cert))
					trust = &tls.Config{RootCAs: roots}
				}
				scatter(t, filepath.Join(v.dir, "store"), objects)
				v.owned(t)
				d, err := ftp.New(v.url+"/store", ftp.Options{Hosts: hosts, TLS: trust})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			storetest.RunBlobs(t, open)
			if scheme == "ftp" {
				return
			}
			t.Run("thousand", func(t *testing.T) { // of which each takes its session up again
				thousandReads(t, open(t, map[string][]byte{"x": make([]byte, 20_000)}), "x", 20_000)
			})
		})
	}
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

// TestFTPImages makes images whose chunks, index and sidecar lie on an FTP server,
// and uses them there.
func TestFTPImages(t *testing.T) {
	for _, scheme := range []string{"ftp", "ftpes"} {
		t.Run(scheme, func(t *testing.T) {
			v := startFTP(t, scheme)
			usesImages(t, v.server(), v.dir, v.url)
			if left := leftovers(t, v.dir, "disk.caibx", "tree.caidx", "tree.caidx.tree"); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// TestFTPConnectionsDie while a mounted image is read: no reader hears of it.
func TestFTPConnectionsDie(t *testing.T) {
	needFUSE(t)
	v := startFTP(t, "ftp")
	d := newDisk(t, 1_000_001)
	must(t, "cp", "-r", d.index, d.store, v.dir)
	v.owned(t)
	mnt := t.TempDir()
	m := start(t, caravel, "mount", "--no-sweep", v.url+"/disk.caibx", mnt)
	m.expect("Mounted: ")
	if n := bereave(t, v.cmd.Process.Pid); n == 0 {
		t.Error("no connection was cut")
	}
	holds(t, filepath.Join(mnt, "disk"), d.data)
	m.ends(syscall.SIGTERM, soon)
}

// TestFTPRefusals are one line each.
func TestFTPRefusals(t *testing.T) {
	d := newDisk(t, 100_000)
	v := startFTP(t, "ftp", "cmds_denied=STOR")
	complaint(t, run(t, caravel, "make", "--progress=none", "--store", v.url+"/default.castr", d.path("new.caibx"), d.image), v.url+"/default.castr", "the server says 550")
	complaint(t, run(t, caravel, "cat", v.url+"/none.caibx"), v.url+"/none.caibx: not there")
}
