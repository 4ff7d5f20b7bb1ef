//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testNBDUdev has udev make the link, by the rule of contrib.
func testNBDUdev(t *testing.T) {
	const udevd = "/lib/systemd/systemd-udevd"
	if _, err := os.Stat(udevd); err != nil {
		t.Skip(udevd + " is not installed")
	}
	need(t, "udevadm")
	if _, err := os.Stat("/run/udev/control"); err == nil {
		t.Skip("udev runs here already, with rules of its own")
	}
	rule := strings.ReplaceAll(string(read(t, "../contrib/udev/75-caravel.rules")), "/usr/local/bin/caravel", caravel)
	if err := os.MkdirAll("/run/udev/rules.d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/run/udev/rules.d/75-caravel.rules", []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, udevd, "--daemon")
	t.Cleanup(func() {
		_ = exec.Command("udevadm", "control", "--exit").Run()
		os.RemoveAll("/run/udev")
	})

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
