//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needVM skips the test where no virtual machine can be had. It returns the
// programs that run a command in one, and that boot one.
func needVM(t *testing.T) (run, boot string) {
	t.Helper()
	needRoot(t)
	run, err := filepath.Abs("vm/run")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(run, "--check").CombinedOutput(); err != nil {
		t.Skipf("no virtual machine: %s", out)
	}
	return run, filepath.Join(filepath.Dir(run), "boot")
}

// needless is a test of a kernel without the nbd driver.
const needless = "TestNoDriver"

// inVM runs in a virtual machine a shell script that finds the tests of this
// package at $0 and those of rooms at $1, $2 and so on, and checks that tests have
// passed there, and that none was left out but needless, which the machine has no use
// for.
func inVM(t *testing.T, rooms []string, script string, passed ...string) {
	t.Helper()
	seconds := "600" // without KVM and on a busy machine it takes minutes
	if long() {
		seconds = "3000"
	}
	vm, _ := needVM(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := []string{self}
	for _, room := range rooms {
		tests := filepath.Join(t.TempDir(), path.Base(room)+".test")
		must(t, "go", "test", "-c", "-o", tests, "caravel/"+room)
		programs = append(programs, tests)
	}
	for _, program := range append([]string{caravel}, programs...) {
		if on(t, program) != on(t, "/") {
			t.Skipf("%s is not on the root file system, which is all that the machine sees", program)
		}
	}
	args := []string{"--env", "CARAVEL=" + caravel, "--env", "CARAVEL_LONG", "--timeout", seconds, "--", "sh", "-c", script}
	r := run(t, vm, append(args, programs...)...)
	if r.status != 0 {
		t.Fatalf("status %d\n%s\n%s", r.status, r.stdout, r.stderr)
	}
	for line := range strings.Lines(r.stdout) {
		if _, name, skipped := strings.Cut(line, "--- SKIP: "); skipped && !strings.HasPrefix(name, needless+" ") {
			t.Errorf("left out: %s:\n%s", name, r.stdout)
		}
	}
	for _, name := range passed {
		if !strings.Contains(r.stdout, "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass:\n%s", name, r.stdout)
		}
	}
}

// on is the device that path lies on.
func on(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(path, err)
	}
	return uint64(st.Dev)
}
