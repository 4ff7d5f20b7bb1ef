//go:build linux

package integration

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// serverProgram builds a server that is a Go module, named as in servers/go.mod,
// and returns its path. What was built before is in Go's cache: the first time takes
// minutes.
func serverProgram(t testing.TB, name string) string {
	t.Helper()
	cmd := exec.Command("go", "tool", "-n", name)
	cmd.Dir = "servers"
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%s cannot be built: %v\n%s", name, err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// answers waits until a server takes connections at address.
func (d *daemon) answers(address string) {
	d.t.Helper()
	eventually(d.t, d.cmd.Path+" listens", func() bool {
		select {
		case <-d.exited:
			d.t.Fatalf("%v ended early: %s", d.cmd.Args, d.stderr)
		default:
		}
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}
