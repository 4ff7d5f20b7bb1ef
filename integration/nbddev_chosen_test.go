//go:build linux

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// testNBDChosen takes the device that was asked for, with as many connections, and
// tells the service manager.
func testNBDChosen(t *testing.T) {
	image, data := nbdImage(t, 14, 100_000)
	device := freeNBD(t)
	m := newManager(t)
	server := startWith(t, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path)
	}, caravel, "mkdev", "--via=nbd", "--connections=2", image, device)
	if got := server.expect("Attached: "); got != device {
		t.Errorf("%s, want %s", got, device)
	}
	if told := m.told(t); !slices.Contains(told, "READY=1") || !slices.Contains(told, "DEVICE="+device) {
		t.Errorf("service manager was told %q", told)
	}
	eventually(t, "two links, and none to the service manager any more", func() bool {
		return len(linksOf(t, server)) == 2
	})
	holds(t, device, padded(data, 512))
	nbdEnds(t, server, device)
}

// testNBDDetachSupervised ends the supervisor with the device.
func testNBDDetachSupervised(t *testing.T) {
	image, data := nbdImage(t, 15, 100_000)
	link := filepath.Join(t.TempDir(), "link")
	server, device := nbdAttached(t, "--supervise", image, link)
	holds(t, link, padded(data, 512))
	must(t, caravel, "mkdev", "--detach", link)
	if status := server.wait(); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	nbdFree(t, device)
	absent(t, link)
}

// installed is a copy of the program, to be replaced by another one.
func installed(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "caravel")
	install(t, path)
	return path
}

// install puts a copy of the program at path in the place of what is there, as
// packages do.
func install(t *testing.T, path string) {
	t.Helper()
	must(t, "cp", caravel, path+".new") // by another process: none of ours has it open for writing when it is executed
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// runs checks that a process is of the program that lies at path now.
func runs(t *testing.T, pid int, path string) {
	t.Helper()
	want, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !os.SameFile(got, want) {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		t.Errorf("process %d is of %s, %v; want the new %s", pid, to, err, path)
	}
}

// testNBDNewProgram puts another program in the place of the one that serves a
// device, while that is read.
func testNBDNewProgram(t *testing.T) {
	program := installed(t)
	image, data := nbdImage(t, 16, 4<<20)
	server := start(t, program, "mkdev", "--via=nbd", "--supervise", image)
	device := server.expect("Attached: ")
	t.Cleanup(func() { // what a failed test leaves
		_ = server.cmd.Process.Signal(syscall.SIGTERM)
		<-server.exited
	})
	j := readers(t, device, data, 4)
	for range times(1, 5) {
		old := nbdList(t, device).PID
		install(t, program)
		must(t, "kill", "-HUP", fmt.Sprint(server.cmd.Process.Pid))
		now := old
		eventually(t, "another process serves the device", func() bool {
			now = nbdList(t, device).PID
			return now != 0 && now != old
		})
		runs(t, now, program)
		j.goOn()
	}
	j.end()
	nbdEnds(t, server, device)
}
