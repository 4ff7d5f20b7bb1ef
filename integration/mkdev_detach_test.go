//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestMkdevDetachInUse takes no loop device away from who has it open, which would
// be the end of what they read: neither one that ends with its process nor one that
// outlives it.
func TestMkdevDetachInUse(t *testing.T) {
	d := newDisk(t, 100_000)
	for _, flags := range [][]string{nil, {"--supervise"}} {
		server, device := attached(t, append(flags, "--via=loop", d.index)...)
		f, err := os.Open(device)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		complaint(t, run(t, caravel, "mkdev", "--detach", device), device+": in use: open by ", fmt.Sprintf("(%d)", os.Getpid()))
		holds(t, device, append(bytes.Clone(d.data), make([]byte, 352)...))
		select {
		case <-server.exited:
			t.Errorf("%q: ended: %s", flags, server.stderr)
		default:
		}
		f.Close()
		must(t, caravel, "mkdev", "--detach", device)
		if status := server.wait(); status != 0 {
			t.Errorf("%q: status %d: %s", flags, status, server.stderr)
		}
		if isAttached(device) {
			t.Errorf("%q: %s is still attached", flags, device)
		}
	}
}

// TestMkdevStopping tells the service manager that it ends when it does: not before
// a device in use is found to stay.
func TestMkdevStopping(t *testing.T) {
	needHeld(t)
	d := newDisk(t, 100_000)
	m := newManager(t)
	server := startWith(t, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path)
		cmd.WaitDelay = soon
	}, caravel, "mkdev", "--via=loop", "--supervise", d.index)
	device := server.expect("Attached: ")
	if told := m.told(t); !slices.Contains(told, "READY=1") {
		t.Errorf("told %q", told)
	}
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	worker := inList(t, device).PID
	if err := syscall.Kill(worker, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process serves the device", func() bool {
		pid := inList(t, device).PID
		return pid != 0 && pid != worker
	})
	holds(t, device, append(bytes.Clone(d.data), make([]byte, 352)...))
	// What the one before has said is here already.
	if err := m.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	if n, err := m.conn.Read(b); err == nil {
		t.Errorf("told %q", b[:n])
	}
	f.Close()
	server.ends(syscall.SIGTERM, soon)
	if told := m.told(t); !slices.Contains(told, "STOPPING=1") {
		t.Errorf("told %q", told)
	}
}
