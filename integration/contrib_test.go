//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits has systemd look at the units, as make install puts them.
func TestUnits(t *testing.T) {
	need(t, "systemd-analyze", "make")
	dest := t.TempDir()
	must(t, "make", "-C", "..", "install", "DESTDIR="+dest, "PREFIX=/usr")
	units, err := filepath.Glob(filepath.Join(dest, "usr/lib/systemd/system/*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	for _, unit := range units {
		// It wants the program to be where the unit says.
		text := strings.ReplaceAll(string(read(t, unit)), "/usr/bin/caravel", caravel)
		if strings.HasSuffix(unit, ".service") && !strings.Contains(text, caravel) {
			t.Errorf("%s runs another program", unit)
		}
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
	if r.status != 0 || strings.Contains(r.stderr, "caravel-") {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
}

// TestUdevRule has udev look at the rule, where it can.
func TestUdevRule(t *testing.T) {
	need(t, "udevadm")
	if r := run(t, "udevadm", "verify", "--help"); r.status != 0 {
		t.Skip("this udevadm verifies nothing (systemd before 254)")
	}
	must(t, "udevadm", "verify", "../contrib/udev/75-caravel.rules")
}
