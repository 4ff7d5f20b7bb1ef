//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNBDDeviceInVM runs the tests of nbd devices, and those of their room, in
// a machine whose kernel has the driver.
func TestNBDDeviceInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	needRoot(t)
	vm, err := filepath.Abs("vm/run")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(vm, "--check").CombinedOutput(); err != nil {
		t.Skipf("no virtual machine: %s", out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	room := filepath.Join(t.TempDir(), "nbddev.test")
	must(t, "go", "test", "-c", "-o", room, "caravel/nbddev")
	for _, program := range []string{self, room, caravel} {
		if on(t, program) != on(t, "/") {
			t.Skipf("%s is not on the root file system, which is all that the machine sees", program)
		}
	}
	const script = `modprobe nbd && modprobe squashfs && "$0" -test.v && "$1" -test.v -test.run '^TestNBDDevice$'`
	limit := "600"
	if long() {
		limit = "3000"
	}
	r := run(t, vm, "--env", "CARAVEL="+caravel, "--env", "CARAVEL_LONG", "--timeout", limit, "--", "sh", "-c", script, room, self)
	if r.status != 0 {
		t.Fatalf("status %d\n%s\n%s", r.status, r.stdout, r.stderr)
	}
	for _, name := range []string{"TestAttach", "TestReattach", "TestNBDDevice"} {
		if !strings.Contains(r.stdout, "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass:\n%s", name, r.stdout)
		}
	}
}
