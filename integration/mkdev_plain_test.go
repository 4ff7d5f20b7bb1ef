//go:build linux

package integration

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"caravel/fusefs"
)

// TestMkdevPlain replaces the process of a loop device on a kernel where that cannot
// outlive it: not below a mounted file system.
func TestMkdevPlain(t *testing.T) {
	needLoop(t)
	need(t, "mkfs.ext4", "mount", "umount")
	h, err := fusefs.Hold(t.TempDir(), fusefs.Options{})
	if err == nil {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		t.Skip("a loop device outlives its process here; TestMkdevNBDInVM has another kernel")
	}
	if !errors.Is(err, fusefs.ErrNoResend) {
		t.Fatal(err)
	}
	tree := t.TempDir()
	recipe{seed: 1, size: 100_000, kind: "random"}.write(t, filepath.Join(tree, "file"))
	image := filepath.Join(t.TempDir(), "image.img")
	ext4(t, image, tree, 4)
	server, device := attached(t, "--via=loop", "--supervise", image)
	hangup := func() {
		t.Helper()
		if err := server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	must(t, "mount", "-t", "ext4", "-o", "ro", device, dir)
	pid := inList(t, device).PID
	for n := range 2 {
		hangup()
		eventually(t, "not replaced", func() bool {
			return strings.Count(server.stderr.String(), "mounted on "+dir) == n+1
		})
	}
	same(t, filepath.Join(dir, "file"), filepath.Join(tree, "file"))
	if now := inList(t, device).PID; now != pid {
		t.Errorf("process %d serves, want %d still", now, pid)
	}
	must(t, "umount", dir)
	hangup()
	again := server.expect("Attached: ")
	if now := inList(t, again).PID; now == pid || now == 0 {
		t.Errorf("process %d serves, want another than %d", now, pid)
	}

	must(t, "mount", "-t", "ext4", "-o", "ro", again, dir)
	hangup()
	eventually(t, "not replaced", func() bool {
		return strings.Count(server.stderr.String(), "mounted on "+dir) == 3
	})
	must(t, "umount", dir)
	must(t, caravel, "mkdev", "--detach", again)
	if status := server.wait(); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
}
