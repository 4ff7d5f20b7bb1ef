//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMkdevOverlayNoDriver says what else there is for who wants to write.
func TestMkdevOverlayNoDriver(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/sys/module/nbd"); err == nil {
		t.Skip("the kernel has an nbd driver")
	}
	d := newDisk(t, 1000)
	over := filepath.Join(t.TempDir(), "over")
	complaint(t, run(t, caravel, "mkdev", "--overlay", over, d.index), "modprobe nbd", "caravel nbd-server --overlay", "virtual machine")
	absent(t, over)
}
