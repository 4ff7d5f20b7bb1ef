//go:build linux

package integration

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMountLogs has a mount in the background log where the system does: to the
// journal, or to syslog where there is none.
func TestMountLogs(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	p := packTree(t, caravel, randomFiles(t, 1, 1, 5000))
	t.Run("journal", func(t *testing.T) { logsTo(t, p, journal(t), "caravel") })
	t.Run("syslog", func(t *testing.T) { logsTo(t, p, syslogd(t), "caravel[") })
}

// journal listens as systemd's does, and gives what is said there.
func journal(t *testing.T) <-chan string {
	t.Helper()
	at := inPlace(t, "/run/systemd/journal/stdout")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	said := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for lines := bufio.NewScanner(c); lines.Scan(); {
				said <- lines.Text()
			}
			c.Close()
		}
	}()
	return said
}

// syslogd listens as a syslog daemon does.
func syslogd(t *testing.T) <-chan string {
	t.Helper()
	at := inPlace(t, "/dev/log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { c.Close() })
	said := make(chan string, 100)
	go func() {
		for buf := make([]byte, 8<<10); ; {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	return said
}

// inPlace makes sure that nothing is where the system's log would listen, and that
// nothing stays there.
func inPlace(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Lstat(path); err == nil {
		t.Skipf("%s is there already", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// logsTo has a mount report, and sees to it that this is said, with a mark.
func logsTo(t *testing.T, p packedTree, said <-chan string, mark string) {
	t.Helper()
	dir := t.TempDir()
	unmountLater(t, dir)
	must(t, caravel, "mount", "--daemon", p.index, dir)
	pid := serving(t, dir)
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		t.Fatalf("%d: %v", pid, err)
	}
	marked, reported := false, false
	eventually(t, "the report is in the log", func() bool {
		for {
			select {
			case line := <-said:
				marked = marked || strings.Contains(line, mark)
				reported = reported || strings.Contains(line, "read-ahead")
				continue
			default:
			}
			return marked && reported
		}
	})
	must(t, "umount", dir)
	eventually(t, "the process ends", func() bool { return len(serversOf(t, dir)) == 0 })
}
