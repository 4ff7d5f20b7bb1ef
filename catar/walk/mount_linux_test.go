package walk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/walk"
	"caravel/feature"
)

// mount mounts source on the new name in dir, and takes it away afterwards.
func mount(t *testing.T, source, target, fstype string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		t.Skipf("mounting %s: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", target, err)
		}
	})
}

func TestMountsLikeCasync(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"proc/": "", "sys/": "", "tmp/": "", "bound/": "", "cmdline": "", "file": "", "other/x": "y", "null": "", "z": "z",
	})
	p := func(name string) string { return filepath.Join(dir, name) }
	mount(t, "proc", p("proc"), "proc", 0)
	mount(t, "sysfs", p("sys"), "sysfs", 0)
	mount(t, "tmpfs", p("tmp"), "tmpfs", 0)
	mount(t, p("other"), p("bound"), "", unix.MS_BIND) // the device is the same
	mount(t, "/proc/version", p("cmdline"), "", unix.MS_BIND)
	mount(t, p("other/x"), p("file"), "", unix.MS_BIND)
	mount(t, "/dev/null", p("null"), "", unix.MS_BIND)
	write(t, dir, map[string]string{"tmp/a/b": "c"})

	// proc's own times change all the time, and its owners do not matter.
	const kept = feature.Permissions | feature.DeviceNodes | usual
	stats := same(t, dir, kept, "--with=permissions", "--with=device-nodes")
	if want := (walk.Stats{Entries: 14}); stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
	stats = same(t, dir, kept|feature.ExcludeSubmounts, "--with=permissions", "--with=device-nodes", "--exclude-submounts=yes")
	if want := (walk.Stats{Entries: 4, Excluded: 7}); stats != want {
		t.Errorf("without the mounts: got %+v, want %+v", stats, want)
	}
	same(t, p("proc"), kept, "--with=permissions", "--with=device-nodes")
	same(t, p("tmp"), kept|feature.ExcludeSubmounts, "--with=permissions", "--with=device-nodes", "--exclude-submounts=yes")
}

func TestNoDumpLikeCasync(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1", "b/c": "2", "d/e": "3", "f": "4"})
	for _, name := range []string{"a", "b"} {
		if out, err := exec.Command("chattr", "+d", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Skipf("chattr: %v\n%s", err, out)
		}
	}
	if stats, want := same(t, dir, all), (walk.Stats{Entries: 4, Excluded: 2}); stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
	keep := (feature.All | usual&^feature.ExcludeNoDump).Normal()
	if stats, want := same(t, dir, keep, "--exclude-nodump=no"), (walk.Stats{Entries: 7}); stats != want {
		t.Errorf("kept: got %+v, want %+v", stats, want)
	}
	if err := exec.Command("chattr", "+d", dir).Run(); err != nil {
		t.Fatal(err)
	}
	if stats, want := same(t, dir, all), (walk.Stats{Entries: 4, Excluded: 2}); stats != want {
		t.Errorf("the root: got %+v, want %+v", stats, want)
	}
}

// A FIFO is not waited for, a socket and a device are not opened.
func TestSpecialFilesLikeCasync(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "none": unix.Mkdev(4000, 70000)} {
			if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o600, int(dev)); err != nil {
				t.Skipf("no device nodes here: %v", err)
			}
		}
	}
	same(t, dir, all)
	same(t, dir, feature.FIFOs|usual, "--with=fifos")
	same(t, dir, feature.Sockets|usual, "--with=sockets")
	same(t, dir, usual, "--without=all")
}
