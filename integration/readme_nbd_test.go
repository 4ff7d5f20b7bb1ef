//go:build linux

package integration

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// copied copies an export, checks its bytes, and ends the server.
func (r *readmeReader) copied(t *testing.T, d *daemon, uri string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	must(t, "nbdcopy", uri, out)
	holds(t, out, r.data)
	d.ends(syscall.SIGINT, soon)
}

func nbdFolderAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "nbdcopy")
	d, _ := r.started(t, line)
	r.copied(t, d, "nbd+unix:///disk?socket="+r.run+"/all.sock")
}

func nbdUsualPortAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "nbdcopy")
	l, err := net.Listen("tcp", "localhost:10809")
	if err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	l.Close()
	d, _ := r.started(t, line)
	r.copied(t, d, "nbd://localhost/disk")
}

func nbdActivationAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "nbdcopy", "systemd-socket-activate")
	at := freePort(t)
	_, port, _ := net.SplitHostPort(at)
	name, args, setup := r.shell(r.away, "exec "+line, "10809", port)
	d := startWith(t, setup, name, args...)
	eventually(t, "somebody listens", func() bool { return strings.Contains(d.stderr.String(), "Listening") })
	r.copied(t, d, "nbd://"+at+"/disk")
}

func nbdTLSAsTyped(t *testing.T, r *readmeReader, line string) {
	need(t, "nbdcopy")
	dir := pki(t)
	d, said := r.started(t, line, "/etc/pki/nbd", dir, "0.0.0.0:10809", "0.0.0.0:0")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(said, "Serving: nbds://"))
	if err != nil {
		t.Fatalf("%v in %q", err, said)
	}
	r.copied(t, d, "nbds://localhost:"+port+"/disk?tls-certificates="+dir)
}
