//go:build linux

package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// needLoop skips the test where there are no loop devices.
func needLoop(t testing.TB) {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices: no /dev/loop-control")
	}
}

// attached starts mkdev and returns the device that it says.
func attached(t testing.TB, args ...string) (*daemon, string) {
	t.Helper()
	needLoop(t)
	d := start(t, caravel, append([]string{"mkdev"}, args...)...)
	device := d.expect("Attached: ")
	t.Cleanup(func() { // what a failed test leaves
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(soon):
		}
	})
	return d, device
}

// isAttached reports whether there is a file behind a loop device.
func isAttached(device string) bool {
	_, err := os.Stat("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return err == nil
}

// TestMkdev attaches images of any size as they are, up to the end of a sector.
func TestMkdev(t *testing.T) {
	need(t, "blockdev")
	for _, tt := range []struct {
		size, want int
		flags      []string
		sector     string
	}{
		{1 << 20, 1 << 20, nil, "512"},
		{1_000_001, 1_000_448, nil, "512"},
		{1, 512, nil, "512"},
		{1_000_001, 1_003_520, []string{"--block-size=4096"}, "4096"},
	} {
		d := newDisk(t, tt.size)
		server, device := attached(t, append(tt.flags, "--via=loop", d.index)...)
		if dio := sysBlock(t, device, "loop/dio"); dio != "1" {
			t.Errorf("%d bytes: direct I/O is %s", tt.size, dio)
		}
		holds(t, device, append(bytes.Clone(d.data), make([]byte, tt.want-tt.size)...))
		want := []string{strconv.Itoa(tt.want), "1", tt.sector}
		if got := strings.Fields(must(t, "blockdev", "--getsize64", "--getro", "--getss", device)); !slices.Equal(got, want) {
			t.Errorf("%d bytes: size, read-only and sector size %v, want %v", tt.size, got, want)
		}
		if err := os.WriteFile(device, []byte("mine"), 0); err == nil {
			t.Errorf("%s can be written", device)
		}
		server.ends(syscall.SIGTERM, soon)
		if isAttached(device) {
			t.Errorf("%s is still attached", device)
		}
	}
}

// TestMkdevTells the service manager, keeps a link while it lives, reads from
// where it is told to and leaves nothing.
func TestMkdevTells(t *testing.T) {
	needLoop(t)
	d := newDisk(t, 300_000)
	o := serveDir(t, d.dir, origin.Options{})
	temp := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	for _, tt := range []struct {
		in  string
		sig syscall.Signal
	}{
		{d.index, syscall.SIGTERM},
		{o.URL() + "/disk.caibx", syscall.SIGINT},
		{"-", syscall.SIGTERM},
		{d.image, syscall.SIGTERM}, // a plain file
	} {
		m := newManager(t)
		server := startWith(t, func(cmd *exec.Cmd) {
			cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "TMPDIR="+temp)
			if tt.in == "-" {
				cmd.Stdin = bytes.NewReader(read(t, d.index))
			}
		}, caravel, "mkdev", "--store", d.store, tt.in, link)
		device := server.expect("Attached: ")
		if told := m.told(t); !slices.Contains(told, "READY=1") || !slices.Contains(told, "DEVICE="+device) {
			t.Errorf("service manager was told %q", told)
		}
		if to, err := os.Readlink(link); err != nil || to != device {
			t.Errorf("link to %q, %v; want %s", to, err, device)
		}
		if got := read(t, link); !bytes.Equal(got[:len(d.data)], d.data) {
			t.Errorf("%s: other bytes", tt.in)
		}
		server.ends(tt.sig, soon)
		absent(t, link)
		if isAttached(device) {
			t.Errorf("%s is still attached", device)
		}
		empty(t, temp)
	}
}

// TestMkdevKilled leaves no mount, and what else is left goes with the next chance.
func TestMkdevKilled(t *testing.T) {
	needLoop(t)
	d := newDisk(t, 100_000)
	for _, tidy := range []func(link string){
		func(link string) { must(t, caravel, "mkdev", "--detach", link) },
		func(string) {
			server, _ := attached(t, "--via=loop", d.index)
			server.ends(syscall.SIGTERM, soon)
		},
	} {
		temp, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
		server := startWith(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "TMPDIR="+temp) }, caravel, "mkdev", "--via=loop", d.index, link)
		device := server.expect("Attached: ")
		empty(t, temp) // the mount is out of sight already
		holds(t, device, append(bytes.Clone(d.data), make([]byte, 352)...))
		_ = server.cmd.Process.Kill()
		<-server.exited
		eventually(t, "the device is gone", func() bool { return !isAttached(device) })
		if _, err := os.Lstat(link); err != nil {
			t.Error(err)
		}
		tidy(link)
		absent(t, link)
		absent(t, "/run/caravel/"+filepath.Base(device))
	}
}

// TestMkdevRefuses before anything is attached; another's link is kept.
func TestMkdevRefuses(t *testing.T) {
	needLoop(t)
	d := newDisk(t, 100_000)
	temp := t.TempDir()
	taken := d.path("taken")
	if err := os.WriteFile(taken, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	fake := d.path("fake.caibx")
	if err := os.WriteFile(fake, d.data, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, wants []string }{
		{[]string{d.index, taken}, []string{taken, "exists"}},
		{[]string{fake}, []string{fake, "offset 0"}},
		{[]string{d.path("none.caibx")}, []string{"none.caibx"}},
		{[]string{"--store", d.path("none"), d.index}, []string{d.path("none")}},
	} {
		r := runWith(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "TMPDIR="+temp) }, caravel, append([]string{"mkdev"}, tt.args...)...)
		complaint(t, r, tt.wants...)
		if strings.Contains(r.stdout, "Attached") {
			t.Errorf("%v: attached", tt.args)
		}
		empty(t, temp)
	}
	holds(t, taken, []byte("precious"))
	for _, tt := range []struct{ args, wants []string }{
		{[]string{d.index, "/dev/loop0"}, []string{"/dev/loop0", "no loop device can be chosen"}},
		{[]string{d.index, "/dev/loop777"}, []string{"/dev/loop777", "no loop device can be chosen"}},
		{[]string{"--via=loop", d.index, "/dev/nbd3"}, []string{"/dev/nbd3", "--via=loop"}},
		{[]string{"--via=loop", "--supervise", d.index, "/dev/nbd3"}, []string{"/dev/nbd3", "--via=loop"}},
	} {
		r := run(t, caravel, append([]string{"mkdev"}, tt.args...)...)
		complaintOf(t, r, 2, tt.wants...)
		if r.stdout != "" {
			t.Errorf("%v: says %s", tt.args, r.stdout)
		}
	}
}

// TestMkdevExt4 mounts a file system from a device whose chunks are elsewhere.
func TestMkdevExt4(t *testing.T) {
	needLoop(t)
	tree := goroot(t, "src", "encoding")
	d := cut(t, func(path string) { ext4(t, path, tree, 16) })
	o := serveDir(t, d.dir, origin.Options{RTT: time.Millisecond})
	server, device := attached(t, o.URL()+"/disk.caibx")
	dir := t.TempDir()
	if r := run(t, "mount", "-t", "ext4", "-o", "ro", device, dir); r.status != 0 {
		t.Skipf("no ext4 here: %s", r.stderr)
	}
	sameTree(t, dir, tree)
	must(t, "umount", dir)
	server.ends(syscall.SIGTERM, soon)
	if isAttached(device) {
		t.Errorf("%s is still attached", device)
	}
}

// TestMkdevInUse cannot be taken away from whoever has it mounted: the end says
// who that is, and does not wait for it.
func TestMkdevInUse(t *testing.T) {
	needLoop(t)
	tree := goroot(t, "src", "errors")
	d := cut(t, func(path string) { ext4(t, path, tree, 4) })
	server, device := attached(t, d.index)
	dir := t.TempDir()
	if r := run(t, "mount", "-t", "ext4", "-o", "ro", device, dir); r.status != 0 {
		t.Skipf("no ext4 here: %s", r.stderr)
	}
	timely(t, "the end", soon, func() {
		if status := server.stop(syscall.SIGTERM); status != 1 {
			t.Errorf("status %d, want 1", status)
		}
	})
	if text := server.stderr.String(); !strings.Contains(text, device) || !strings.Contains(text, "mounted on "+dir) {
		t.Errorf("does not say who uses it: %s", text)
	}
	must(t, "umount", dir)
	eventually(t, device+" is free", func() bool { return !isAttached(device) })
}
