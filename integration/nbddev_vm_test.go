//go:build linux

package integration

import "testing"

// TestNBDDeviceInVM runs the tests of nbd devices, and those of their room, in
// a machine whose kernel has the driver.
func TestNBDDeviceInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	const script = `modprobe nbd && modprobe squashfs && "$0" -test.v && "$1" -test.v -test.run '^TestNBDDevice$'`
	inVM(t, "caravel/nbddev", script, "TestAttach", "TestReattach", "TestNBDDevice")
}
