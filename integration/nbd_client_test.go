//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testNBDClient has nbd-client attach what nbd-server serves, by socket and by TCP,
// on one connection and on several.
func testNBDClient(t *testing.T) {
	need(t, "nbd-client")
	d := newDisk(t, 1_000_001)
	socket := filepath.Join(shortDir(t), "s")
	server, _ := startNBD(t, "--socket", socket, d.index)
	_, uri := startNBD(t, "--listen=127.0.0.1:0", d.index)
	host, port, _ := strings.Cut(strings.TrimPrefix(uri, "nbd://"), ":")
	device := freeNBD(t)
	for _, where := range [][]string{
		{"-unix", socket, device},
		{"-unix", socket, device, "-C", "4"},
		{host, port, device},
		{host, port, device, "-C", "4"},
		{host, port, device, "-C", "2", "-nonetlink"}, // by ioctl
	} {
		t.Run(strings.Join(where, " "), func(t *testing.T) {
			must(t, "nbd-client", append(where, "-name", "disk", "-readonly", "-block-size", "512")...)
			t.Cleanup(func() { _ = exec.Command("nbd-client", "-d", device).Run() }) // after a failure
			sized(t, device)
			holds(t, device, d.data[:len(d.data)/512*512]) // it leaves out a part of a sector
			if ro := sysBlock(t, device, "ro"); ro != "1" {
				t.Errorf("read-only: %s", ro)
			}
			must(t, "nbd-client", "-d", device)
			eventually(t, device+" is free", func() bool {
				_, err := os.Stat("/sys/block/" + filepath.Base(device) + "/pid")
				return err != nil
			})
		})
	}
	if list := must(t, "nbd-client", "-l", host, port); !strings.Contains(list, "disk") {
		t.Errorf("list: %s", list)
	}
	server.ends(15, soon)
}

// freeNBD is a device that nobody uses.
func freeNBD(t *testing.T) string {
	t.Helper()
	dirs, _ := filepath.Glob("/sys/block/nbd*")
	for _, dir := range dirs {
		if _, err := os.Stat(dir + "/pid"); err != nil {
			return "/dev/" + filepath.Base(dir)
		}
	}
	t.Skip("no free nbd device")
	return ""
}

// sized waits until the kernel shows a size.
func sized(t *testing.T, device string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); sysBlock(t, device, "size") == "0"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has no size", device)
		}
	}
}
