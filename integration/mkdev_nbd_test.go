//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// testNBDSlowUdev ends mkdev when udev has asked for a device's name, and is slow in
// making the link: it must not stay.
func testNBDSlowUdev(t *testing.T) {
	const udevd, link = "/lib/systemd/systemd-udevd", "/dev/caravel/slow"
	if _, err := os.Stat(udevd); err != nil {
		t.Skip(udevd + " is not installed")
	}
	need(t, "udevadm")
	if _, err := os.Stat("/run/udev/control"); err == nil {
		t.Skip("udev runs here already, with rules of its own")
	}
	asked := filepath.Join(t.TempDir(), "asked")
	program := filepath.Join(t.TempDir(), "slow")
	writeFile(t, program, fmt.Appendf(nil, "#!/bin/sh\n%s udev $1\necho >>%s\nsleep 1\n", caravel, asked))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	rule := bytes.ReplaceAll(read(t, "../contrib/udev/75-caravel.rules"), []byte("/usr/local/bin/caravel udev"), []byte(program))
	if err := os.MkdirAll("/run/udev/rules.d", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/run/udev/rules.d/75-caravel.rules", rule)
	must(t, udevd, "--daemon")
	t.Cleanup(func() {
		_ = exec.Command("udevadm", "control", "--exit").Run()
		os.RemoveAll("/run/udev")
	})

	image, _ := nbdImage(t, 12, 10_000)
	server, device := nbdAttached(t, image, link)
	if to, err := filepath.EvalSymlinks(link); err != nil || to != device {
		t.Errorf("leads to %s, %v", to, err)
	}
	before := read(t, asked)
	if err := os.WriteFile("/sys/block/"+filepath.Base(device)+"/uevent", []byte("change"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "udev asks", func() bool { return len(read(t, asked)) > len(before) })
	nbdEnds(t, server, device)
	must(t, "udevadm", "settle")
	if to, err := os.Readlink(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s leads to %s, %v", link, to, err)
	}
}
