package notify_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"caravel/internal/notify"
)

// manager listens as a service manager does and names its socket in the
// environment.
func manager(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no datagram sockets with names")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return conn
}

func received(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSendToPath(t *testing.T) {
	conn := manager(t, filepath.Join(t.TempDir(), "notify"))
	if err := notify.Send(notify.Ready, "DEVICE=/dev/nbd0"); err != nil {
		t.Fatal(err)
	}
	if got, want := received(t, conn), "READY=1\nDEVICE=/dev/nbd0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := notify.Send(notify.Status("two\r\nlines")); err != nil {
		t.Fatal(err)
	}
	if got, want := received(t, conn), "STATUS=two  lines"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSendToAbstractSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets are Linux's")
	}
	conn := manager(t, fmt.Sprintf("@caravel-notify-%d", os.Getpid()))
	if err := notify.Send(notify.Stopping); err != nil {
		t.Fatal(err)
	}
	if got, want := received(t, conn), "STOPPING=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSendFails(t *testing.T) {
	tests := []struct {
		name, socket, send, want string
	}{
		{"nobody listens", filepath.Join(t.TempDir(), "none"), notify.Ready, "none"},
		{"unknown transport", "vsock:2:1234", notify.Ready, "neither a path nor an abstract socket"},
		{"second assignment in a name", filepath.Join(t.TempDir(), "none"), "DEVICE=a\nMAINPID=1", "line break"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", tt.socket)
			err := notify.Send(tt.send)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func ExampleSend() {
	os.Unsetenv("NOTIFY_SOCKET") // nobody listens: nothing is sent, nothing fails
	fmt.Println(notify.Send(notify.Ready, notify.Status("serving 3 images")))
	// Output: <nil>
}
