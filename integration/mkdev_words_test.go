//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// needNoNBD skips the test where there are better devices than loop devices.
func needNoNBD(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/sys/module/nbd"); err == nil {
		t.Skip("the kernel has an nbd driver")
	}
}

// TestMkdevNoDriver says why a device that nobody asked for is a loop device.
func TestMkdevNoDriver(t *testing.T) {
	needLoop(t)
	needNoNBD(t)
	d := newDisk(t, 1000)
	for flag, want := range map[string]string{
		"--via=auto": "caravel: a loop device is used, as the kernel has no nbd driver; it does not outlive this process\n",
		"--via=loop": "",
	} {
		server, device := attached(t, flag, d.index)
		server.ends(syscall.SIGTERM, soon)
		if !strings.HasPrefix(device, "/dev/loop") {
			t.Errorf("%s: %s", flag, device)
		}
		if got := server.stderr.String(); got != want {
			t.Errorf("%s: says %q, want %q", flag, got, want)
		}
	}
}

// TestMkdevOverlayNoDriver says what else there is for who wants to write.
func TestMkdevOverlayNoDriver(t *testing.T) {
	needRoot(t)
	needNoNBD(t)
	d := newDisk(t, 1000)
	over := filepath.Join(t.TempDir(), "over")
	complaint(t, run(t, caravel, "mkdev", "--overlay", over, d.index), "modprobe nbd", "caravel nbd-server --overlay", "virtual machine")
	absent(t, over)
}
