package nbd_test

import (
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/nbd"
)

// exhausted is a listener that fails for each of these reasons first.
type exhausted struct {
	net.Listener
	why  []error
	next atomic.Int32
}

func (e *exhausted) Accept() (net.Conn, error) {
	if n := int(e.next.Add(1)); n <= len(e.why) {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", e.why[n-1])}
	}
	return e.Listener.Accept()
}

func TestServeOutlivesWant(t *testing.T) {
	s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: patternReader{}}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := &exhausted{Listener: l, why: []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), e) }()
	open(t, socket, "", false).wantRead(0, 4096)
	l.Close()
	if err := <-done; err == nil {
		t.Error("no error when the listener is closed by others")
	}
}
