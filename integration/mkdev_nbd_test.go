//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMkdevNBD is about which process has an nbd device, and what becomes of its
// name.
func TestMkdevNBD(t *testing.T) {
	needNBD(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	t.Run("another overlay", testNBDAnotherOverlay)
}

// TestMkdevNBDInVM runs them in a machine whose kernel has the driver.
func TestMkdevNBDInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	inVM(t, nil, `modprobe nbd && "$0" -test.v -test.run '^TestMkdevNBD$'`, "TestMkdevNBD")
}

// testNBDAnotherOverlay goes on with a device through the overlay that it was
// attached with, and through no other.
func testNBDAnotherOverlay(t *testing.T) {
	image, _ := nbdImage(t, 11, 1<<20)
	over, other := filepath.Join(t.TempDir(), "over"), filepath.Join(t.TempDir(), "other")
	server, device := nbdAttached(t, "--overlay", over, image)
	server.stop(syscall.SIGKILL)
	for _, flags := range [][]string{nil, {"--overlay", other}} {
		args := append([]string{"mkdev", "--via=nbd"}, flags...)
		complaint(t, run(t, caravel, append(args, image, device)...), device, "another --overlay", "--detach")
		theirs, where := nbdAttached(t, append(flags, image)...)
		if where == device {
			t.Errorf("%q goes on with %s, whose overlay is another", flags, device)
		}
		nbdEnds(t, theirs, where)
	}
	again, where := nbdAttached(t, "--overlay", over, image)
	if where != device {
		t.Errorf("%s, want %s again", where, device)
	}
	nbdEnds(t, again, device)
}
