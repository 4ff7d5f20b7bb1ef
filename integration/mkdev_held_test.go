//go:build linux

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/fusefs"
)

// A heldLoop is mkdev --supervise with a loop device, on which an ext4 is mounted.
type heldLoop struct {
	t      *testing.T
	disk   *disk
	server *daemon // the supervisor
	temp   string  // its $TMPDIR
	device string
	dir    string        // where the ext4 is mounted
	number atomic.Uint64 // of the FUSE connection
}

// needHeld skips the test where a loop device cannot outlive a process.
func needHeld(t *testing.T) {
	t.Helper()
	needLoop(t)
	h, err := fusefs.Hold(t.TempDir(), fusefs.Options{})
	if errors.Is(err, fusefs.ErrNoResend) {
		t.Skipf("%s: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// newHeldLoop attaches an image and mounts it. No hang outlives the test: after
// some minutes all of it is ended by force, so that what waits for it fails.
func newHeldLoop(t *testing.T) *heldLoop {
	t.Helper()
	return newHeldLoopOf(t, caravel)
}

// newHeldLoopOf has program attach it.
func newHeldLoopOf(t *testing.T, program string) *heldLoop {
	t.Helper()
	needHeld(t)
	need(t, "mount", "umount")
	h := &heldLoop{t: t, temp: t.TempDir(), dir: t.TempDir()}
	h.disk = cut(t, heldImage(t, 1))
	h.server = startWith(t, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "TMPDIR="+h.temp)
		cmd.WaitDelay = soon // its worker may live longer, and has its standard output
	}, program, "mkdev", "--via=loop", "--supervise", h.disk.index)
	limit := time.AfterFunc(time.Duration(times(2, 10))*time.Minute, h.abort)
	t.Cleanup(func() {
		limit.Stop()
		h.abort()
		_ = exec.Command("umount", "-l", h.dir).Run()
	})
	h.device = h.server.expect("Attached: ")
	h.number.Store(backing(t, h.device))
	must(t, "mount", "-t", "ext4", "-o", "ro", h.device, h.dir)
	return h
}

// heldImage writes an ext4 with the file "big", which depends on seed.
func heldImage(t *testing.T, seed int) func(path string) {
	return func(path string) {
		t.Helper()
		tree := t.TempDir()
		recipe{seed: uint64(seed), size: 8 << 20, kind: "random"}.write(t, filepath.Join(tree, "big"))
		ext4(t, path, tree, 16)
	}
}

// backing is the number of the file system on which a loop device's file lies.
func backing(t *testing.T, device string) uint64 {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return info.Device
}

// abort kills whoever serves, and fails all reads.
func (h *heldLoop) abort() {
	workers := h.workers()
	_ = h.server.cmd.Process.Kill()
	for _, pid := range append(workers, h.workers()...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	abort := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", h.number.Load())
	_ = os.WriteFile(abort, []byte("1"), 0) // it is there only if something hangs
}

// workers are the processes that the supervisor has started.
func (h *heldLoop) workers() (all []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", h.server.cmd.Process.Pid))
	for _, name := range threads {
		b, _ := os.ReadFile(name)
		for _, field := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}

// inList is what --list says of a device; nothing if that is not in it.
func inList(t *testing.T, device string) (d struct {
	Device, State, Image string
	PID                  int
}) {
	t.Helper()
	for line := range strings.Lines(must(t, caravel, "mkdev", "--list", "--json")) {
		if strings.Contains(line, `"`+device+`"`) {
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// worker is the process that serves the device, by what --list says, but not old.
func (h *heldLoop) worker(old int) (pid int) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%s is served: %s", h.device, h.server.stderr), func() bool {
		pid = inList(h.t, h.device).PID
		return pid != 0 && pid != old
	})
	if all := h.workers(); len(all) != 1 || all[0] != pid {
		h.t.Errorf("process %d has the device, the supervisor started %v", pid, all)
	}
	return pid
}

// read has four jobs read a file on the device past the page cache.
func (h *heldLoop) read() *jobs {
	h.t.Helper()
	path := filepath.Join(h.dir, "big")
	j := readers(h.t, path, read(h.t, path), 4)
	h.t.Cleanup(func() { // of a test that has failed
		select {
		case <-j.stop:
		default:
			h.abort()
			j.end()
		}
	})
	return j
}

func (h *heldLoop) kill(pid int) {
	h.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}

// left checks that nothing is.
func (h *heldLoop) left() {
	h.t.Helper()
	eventually(h.t, h.device+" is free", func() bool {
		_, err := os.Stat("/run/caravel/" + filepath.Base(h.device))
		return os.IsNotExist(err) && !isAttached(h.device)
	})
	empty(h.t, h.temp)
	if mounts := string(read(h.t, "/proc/self/mountinfo")); strings.Contains(mounts, h.disk.index) {
		h.t.Errorf("there is a mount left: %s", mounts)
	}
	if all := h.workers(); len(all) != 0 {
		h.t.Errorf("processes are left: %v", all)
	}
}

// TestMkdevHeld kills and replaces who serves a loop device while it is read.
func TestMkdevHeld(t *testing.T) {
	h := newHeldLoop(t)
	j := h.read()
	pid := h.worker(0)
	for range times(3, 20) {
		j.goOn()
		h.kill(pid)
		j.goOn()
		pid = h.worker(pid)

		must(t, "kill", "-HUP", fmt.Sprint(h.server.cmd.Process.Pid))
		pid = h.worker(pid)
		j.goOn()
	}
	for range 2 { // with nothing in between
		h.kill(pid)
		pid = h.worker(pid)
	}
	j.goOn()
	j.end()
	must(t, "umount", h.dir)
	holds(t, h.device, h.disk.data)
	h.server.ends(syscall.SIGTERM, soon)
	h.left()
	if text := h.server.stderr.String(); strings.Count(text, "level=WARN") != times(3, 20)+2 {
		t.Errorf("there was more to warn of than the crashes:\n%s", text)
	}
}

// TestMkdevHeldNewProgram puts another program in the place of the one that serves.
func TestMkdevHeldNewProgram(t *testing.T) {
	program := installed(t)
	h := newHeldLoopOf(t, program)
	j := h.read()
	pid := h.worker(0)
	for range 2 {
		j.goOn()
		install(t, program)
		must(t, "kill", "-HUP", fmt.Sprint(h.server.cmd.Process.Pid))
		pid = h.worker(pid)
		runs(t, pid, program)
		j.goOn()
	}
	j.end()
	must(t, "umount", h.dir)
	h.server.ends(syscall.SIGTERM, soon)
	h.left()
}

// TestMkdevHeldOther finds another image in the place of the one that is attached,
// until that is there again.
func TestMkdevHeldOther(t *testing.T) {
	h := newHeldLoop(t)
	other := cut(t, heldImage(t, 2))
	mine := read(t, h.disk.index)
	j := h.read()
	j.goOn()
	if err := os.WriteFile(h.disk.index, read(t, other.index), 0o666); err != nil {
		t.Fatal(err)
	}
	h.kill(h.worker(0))
	said := "\ncaravel: " + h.device + ": attached to another image (caravel:"
	eventually(t, "another image is refused", func() bool { return strings.Contains(h.server.stderr.String(), said) })
	if err := os.WriteFile(h.disk.index, mine, 0o666); err != nil {
		t.Fatal(err)
	}
	j.goOn()
	j.end()
	for line := range strings.Lines(h.server.stderr.String()) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix("\n"+line, said) {
			t.Errorf("not one line: %s", line)
		}
	}
	must(t, "umount", h.dir)
	h.server.ends(syscall.SIGTERM, soon)
	h.left()
}

// TestMkdevHeldDetach takes away a device that nobody uses, and no other.
func TestMkdevHeldDetach(t *testing.T) {
	h := newHeldLoop(t)
	if got := inList(t, h.device); got.State != "served" || got.Image != h.disk.index {
		t.Errorf("listed as %+v", got)
	}
	j := h.read()
	complaint(t, run(t, caravel, "mkdev", "--detach", h.device), h.device, "in use")
	j.goOn()
	j.end()
	h.worker(0)
	must(t, "umount", h.dir)
	must(t, caravel, "mkdev", "--detach", h.device)
	if status := h.server.wait(); status != 0 {
		t.Errorf("status %d: %s", status, h.server.stderr)
	}
	h.left()
}

// TestMkdevHeldInUse ends with a device in use: then reads of it fail.
func TestMkdevHeldInUse(t *testing.T) {
	h := newHeldLoop(t)
	timely(t, "the end", soon, func() {
		if status := h.server.stop(syscall.SIGTERM); status != 1 {
			t.Errorf("status %d, want 1", status)
		}
	})
	if text := h.server.stderr.String(); !strings.Contains(text, h.device+": in use: mounted on "+h.dir) {
		t.Errorf("does not say who uses it: %s", text)
	}
	f, err := os.OpenFile(h.device, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(b, 0); !isEIO(err) {
		t.Errorf("read: %v, want EIO", err)
	}
	f.Close()
	must(t, "umount", h.dir)
	eventually(t, h.device+" is free", func() bool { return !isAttached(h.device) })
	empty(t, h.temp)
}

// TestMkdevHeldAlone kills the supervisor: who serves goes on by itself.
func TestMkdevHeldAlone(t *testing.T) {
	h := newHeldLoop(t)
	pid := h.worker(0)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	j := h.read()
	j.goOn()
	h.kill(h.server.cmd.Process.Pid)
	j.goOn()
	j.end()
	must(t, "umount", h.dir)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.left()
}
