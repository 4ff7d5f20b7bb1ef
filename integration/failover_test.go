//go:build linux

package integration

import (
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// signal sends one to the server and its workers.
func (n *nginx) signal(sig syscall.Signal) {
	n.t.Helper()
	pid := n.cmd.Process.Pid
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		n.t.Fatalf("nginx has no workers: %v", err)
	}
	for _, worker := range append(strings.Fields(string(out)), strconv.Itoa(pid)) {
		pid, err := strconv.Atoi(worker)
		if err != nil {
			n.t.Fatal(err)
		}
		if err := syscall.Kill(pid, sig); err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestFailoverInReads ends the first of two servers, or has it stand still, in the middle
// of a mount's reads: nobody gets an error, and nobody waits for much longer than a
// request may stand still.
func TestFailoverInReads(t *testing.T) {
	needFUSE(t)
	const stall = 2 * time.Second
	d := newDisk(t, 12_000_000)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			first, second := startNginx(t, d.dir, false), startNginx(t, d.dir, false)
			m, image := mounted(t, "--what=blob-index", "--no-sweep", "--memory=1M", "--cache-dir=none", "--stall-timeout="+stall.String(),
				"-s", first.url+"/default.castr|"+second.url+"/default.castr", d.index, t.TempDir())
			var longest, reads atomic.Int64
			stop := readAlways(t, func() error {
				began := time.Now()
				err := readSomewhere(image, d.data)
				took := int64(time.Since(began))
				for was := longest.Load(); took > was && !longest.CompareAndSwap(was, took); was = longest.Load() {
				}
				reads.Add(1)
				return err
			})
			eventually(t, "the first server is asked", func() bool { return strings.Count(string(read(t, first.log)), "\n") > 100 })
			if n := len(read(t, second.log)); n > 0 {
				t.Errorf("the second server is asked while the first one works: %s", read(t, second.log))
			}
			usual := time.Duration(longest.Load())
			first.signal(sig)
			if sig == syscall.SIGSTOP {
				t.Cleanup(func() { first.signal(syscall.SIGCONT) })
			}
			eventually(t, "the second server is asked", func() bool { return strings.Count(string(read(t, second.log)), "\n") > 100 })
			before := reads.Load()
			eventually(t, "all go on reading", func() bool { return reads.Load() > before+100 })
			stop()
			t.Logf("%d reads; the longest took %v, before that %v", reads.Load(), time.Duration(longest.Load()), usual)
			if took := time.Duration(longest.Load()); took > stall+10*time.Second {
				t.Errorf("somebody waited for %v", took)
			}
			if status := m.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("status %d: %s", status, m.stderr)
			}
		})
	}
}
