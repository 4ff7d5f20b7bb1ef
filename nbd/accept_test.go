package nbd_test

import (
	"net"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/nbd"
)

// exhausted is a listener that has no descriptors left a few times.
type exhausted struct {
	net.Listener
	left atomic.Int32
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return e.Listener.Accept()
}

func TestServeOutlivesWantOfDescriptors(t *testing.T) {
	s, err := nbd.NewServer([]nbd.Export{{Size: mib, Reader: patternReader{}}}, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := &exhausted{Listener: l}
	e.left.Store(2)
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), e) }()
	open(t, socket, "", false).wantRead(0, 4096)
	l.Close()
	if err := <-done; err == nil {
		t.Error("no error when the listener is closed by others")
	}
}
