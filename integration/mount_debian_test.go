//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMountOverlayDebian installs a package in a mounted Debian system, and finds it
// there when that is mounted again.
func TestMountOverlayDebian(t *testing.T) {
	if !long() {
		t.Skip("only in a long run")
	}
	needRoot(t)
	need(t, "debootstrap", "apt-get", "dpkg", "chroot")
	work := t.TempDir()
	root, index := os.Getenv("CARAVEL_DEBIAN"), filepath.Join(work, "debian.caidx")
	if root == "" {
		root = filepath.Join(work, "debian")
		if out, err := exec.Command("debootstrap", "--variant=minbase", "stable", root).CombinedOutput(); err != nil {
			t.Skipf("debootstrap: %v: %s", err, out[max(0, len(out)-300):])
		}
	}
	// Of the tree's own release, without anything that it needs besides.
	r := runWith(t, func(cmd *exec.Cmd) { cmd.Dir = root + "/tmp" }, "chroot", root, "sh", "-ec", "apt-get update; cd /tmp; apt-get download hello")
	if r.status != 0 {
		t.Skipf("no package: %s%s", r.stdout, r.stderr)
	}
	must(t, caravel, "make", index, root)
	digest := must(t, caravel, "digest", index)
	over := filepath.Join(work, "over")

	m, dir := mountedTree(t, "--overlay", over, index)
	must(t, "chroot", dir, "sh", "-ec", "dpkg -i /tmp/hello_*.deb && rm /tmp/hello_*.deb && useradd --create-home somebody")
	installed := func(dir string) {
		t.Helper()
		if got := must(t, "chroot", dir, "hello"); !strings.Contains(got, "Hello") {
			t.Errorf("it says %q", got)
		}
		must(t, "chroot", dir, "dpkg", "--verify", "hello")
		must(t, "chroot", dir, "sh", "-ec", "dpkg --audit; id somebody; test -d /home/somebody; ! ls /tmp/hello_*.deb 2>/dev/null; echo >/dev/null")
	}
	installed(dir)
	m.ends(syscall.SIGTERM, soon)

	m, dir = mountedTree(t, "--overlay", over, index)
	installed(dir)
	must(t, "chroot", dir, "dpkg", "--purge", "hello")
	absent(t, dir+"/usr/bin/hello")
	m.ends(syscall.SIGTERM, soon)

	_, dir = mountedTree(t, index)
	absent(t, dir+"/usr/bin/hello")
	if got := must(t, caravel, "digest", dir); got != digest || must(t, caravel, "digest", index) != digest {
		t.Errorf("the image is %s, was %s", got, digest)
	}
}
