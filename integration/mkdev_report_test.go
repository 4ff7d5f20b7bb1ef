//go:build linux

package integration

import (
	"strings"
	"syscall"
	"testing"
)

// TestMkdevReports has the supervisor asked for a report, which its worker has.
func TestMkdevReports(t *testing.T) {
	d := newDisk(t, 100_000)
	server, _ := attached(t, "--via=loop", "--supervise", d.index)
	if err := server.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a report", func() bool { return strings.Contains(server.stderr.String(), "of the image") })
	server.ends(syscall.SIGTERM, soon)
}
