//go:build linux

package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testNBDUdev has udev make the link, by the rule of contrib.
func testNBDUdev(t *testing.T) {
	udev(t, caravel)

	image, data := nbdImage(t, 9, 10_000)
	server, device := nbdAttached(t, image, "/dev/caravel/golden")
	holds(t, "/dev/caravel/golden", padded(data, 512))
	said := must(t, "udevadm", "info", "--query=property", device)
	if !strings.Contains(said, "CARAVEL_NAME=caravel/golden\n") || !strings.Contains(said, "/dev/caravel/golden") {
		t.Errorf("udev knows of it:\n%s", said)
	}
	if to, err := filepath.EvalSymlinks("/dev/caravel/golden"); err != nil || to != device {
		t.Errorf("leads to %s, %v", to, err)
	}
	nbdEnds(t, server, device)
	absent(t, "/dev/caravel/golden")
}

// udev starts udevd with the rule of contrib, which runs program for caravel, until the
// test ends.
func udev(t *testing.T, program string) {
	t.Helper()
	const udevd = "/lib/systemd/systemd-udevd"
	need(t, udevd, "udevadm")
	if _, err := os.Stat("/run/udev/control"); err == nil {
		t.Skip("udev runs here already, with rules of its own")
	}
	rule := bytes.ReplaceAll(read(t, "../contrib/udev/75-caravel.rules"), []byte("/usr/local/bin/caravel"), []byte(program))
	if err := os.MkdirAll("/run/udev/rules.d", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/run/udev/rules.d/75-caravel.rules", rule)
	must(t, udevd, "--daemon")
	t.Cleanup(func() {
		_ = exec.Command("udevadm", "control", "--exit").Run()
		os.RemoveAll("/run/udev")
	})
}
