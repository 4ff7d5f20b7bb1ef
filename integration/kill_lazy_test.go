//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mounted starts a mount and returns it with the path of the file in it.
func mounted(t testing.TB, args ...string) (*daemon, string) {
	t.Helper()
	needFUSE(t)
	m := start(t, caravel, append([]string{"mount"}, args...)...)
	dir, ok := strings.CutPrefix(m.line(), "Mounted: ")
	if !ok {
		t.Fatalf("not mounted: %s", m.stderr)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_FORCE|2) }) // 2: lazily; what a failed test leaves
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%s holds %v, %v", dir, entries, err)
	}
	return m, filepath.Join(dir, entries[0].Name())
}

// TestKillMount kills a mount: the same place can be mounted again, by the same
// command.
func TestKillMount(t *testing.T) {
	d := newDisk(t, 1<<20)
	dir := filepath.Join(t.TempDir(), "mnt")
	for range times(2, 20) {
		m, file := mounted(t, d.index, dir)
		f, err := os.Open(file) // in use at the time
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 10_000), 0); err != nil {
			t.Error(err)
		}
		if status := m.stop(syscall.SIGKILL); status != -1 {
			t.Errorf("status %d", status)
		}
		f.Close()
	}
	m, file := mounted(t, d.index, dir)
	holds(t, file, d.data)
	if status := m.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, m.stderr)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		t.Errorf("still mounted: %v", entries)
	}
}

// TestEndMountInUse ends a mount while a file of it is open.
func TestEndMountInUse(t *testing.T) {
	d := newDisk(t, 1<<20)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := filepath.Join(t.TempDir(), "mnt")
		m, file := mounted(t, d.index, dir)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		began := time.Now()
		if status := m.stop(sig); status != 0 {
			t.Errorf("%v: status %d: %s", sig, status, m.stderr)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v: took %s to end", sig, took)
		}
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			t.Errorf("%v: still mounted: %v", sig, entries)
		}
	}
}

// TestKillNBDServer kills a server: its socket is taken over by the next one,
// that of a living one is not.
func TestKillNBDServer(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy")
	d := newDisk(t, 1<<20)
	dir := t.TempDir()
	socket, copied := filepath.Join(dir, "sock"), filepath.Join(dir, "copy")
	uri := "nbd+unix:///?socket=" + socket
	for range times(2, 10) {
		server := start(t, caravel, "nbd-server", "--socket", socket, d.index)
		if line := server.line(); line != "Serving: "+uri {
			t.Fatalf("says %q", line)
		}
		if size := strings.TrimSpace(must(t, "nbdinfo", "--size", uri)); size != "1048576" {
			t.Errorf("size %s", size)
		}
		server.stop(syscall.SIGKILL)
	}
	server := start(t, caravel, "nbd-server", "--socket", socket, d.index)
	server.line()
	complaint(t, within(t, 5*time.Second, "nbd-server", "--socket", socket, d.index), socket, "another server listens there")
	must(t, "nbdcopy", uri, copied)
	holds(t, copied, d.data)
	if status := server.stop(syscall.SIGINT); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	absent(t, socket)
	// What is no socket stays.
	if err := os.WriteFile(socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	complaint(t, within(t, 5*time.Second, "nbd-server", "--socket", socket, d.index), socket)
	holds(t, socket, []byte("mine"))
}
