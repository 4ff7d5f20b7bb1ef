//go:build linux

package integration

import "testing"

// TestNBDDeviceInVM runs the tests of nbd devices, and those of their room, in
// a machine whose kernel has the driver, and those of a loop device's partitions.
func TestNBDDeviceInVM(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	const script = `modprobe nbd && modprobe squashfs && modprobe erofs && modprobe loop && "$1" -test.v && ` +
		`"$2" -test.v -test.run '^(TestPartitions|TestKilledWhileAttaching)$' && "$0" -test.v -test.run '^TestNBDDevice$'`
	inVM(t, []string{"nbddev", "loop"}, script, "TestAttach", "TestReattach", "TestPartitions", "TestKilledWhileAttaching/read", "TestNBDDevice")
}
