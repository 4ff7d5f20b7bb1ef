//go:build linux

package integration

import (
	"errors"
	"fmt"
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
	t.Run("slow udev", testNBDSlowUdev)
}

// TestMkdevNBDInVM runs them in a machine whose kernel has the driver, and what is
// about kernels before Linux 6.9.
func TestMkdevNBDInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	const script = `modprobe nbd && modprobe loop && "$1" -test.v -test.run '^TestTakeOverLinks$' && ` +
		`"$0" -test.v -test.run '^(TestMkdevNBD|TestMkdevPlain|TestMkdevPartitions)$'`
	inVM(t, []string{"cmd/caravel"}, script, "TestTakeOverLinks", "TestMkdevNBD", "TestMkdevPlain", "TestMkdevPartitions")
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

// testNBDSlowUdev has a udev that asks for a device's name and is slow in making the
// link, as it also is for what the kernel tells of the end of a device.
func testNBDSlowUdev(t *testing.T) {
	const link = "/dev/caravel/slow"
	program := filepath.Join(t.TempDir(), "slow")
	writeFile(t, program, fmt.Appendf(nil, "#!/bin/sh\n%s \"$@\"\nsleep 0.2\n", caravel))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	udev(t, program)

	image, _ := nbdImage(t, 12, 10_000)
	for range times(3, 20) {
		server, device := nbdAttached(t, image, link)
		if to, err := filepath.EvalSymlinks(link); err != nil || to != device {
			t.Errorf("leads to %s, %v", to, err)
		}
		nbdEnds(t, server, device)
		must(t, "udevadm", "settle")
		if to, err := os.Readlink(link); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s leads to %s, %v", link, to, err)
		}
	}
}
