//go:build linux

package integration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// testNBDOverlay writes to a device through an overlay: a file system that is there
// the next time, also after a kill, and an image that stays as it was.
func testNBDOverlay(t *testing.T) {
	need(t, "mkfs.ext4", "mount", "fio", "blkdiscard")
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, "mkfs.ext4", "-q", "-F", image, "32M")
	before := read(t, image)
	over := filepath.Join(t.TempDir(), "over")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	_, content := nbdImage(t, 9, 3_000_000)

	server, device := nbdAttached(t, "--overlay", over, image)
	if ro := sysBlock(t, device, "ro"); ro != "0" {
		t.Errorf("read-only: %s", ro)
	}
	must(t, "mount", "-t", "ext4", device, dir)
	writeFile(t, file, content)
	must(t, "umount", dir)
	nbdEnds(t, server, device)

	server, device = nbdAttached(t, "--timeout=1s", "--overlay", over, image)
	must(t, "mount", "-t", "ext4", device, dir)
	holds(t, file, content)
	writeFile(t, filepath.Join(dir, "second"), content[:1_000_000])
	must(t, "umount", dir)
	server.stop(syscall.SIGKILL) // with nothing of it flushed by us

	again, same := nbdAttached(t, "--timeout=1s", "--overlay", over, image)
	if same != device {
		t.Errorf("%s, want %s again", same, device)
	}
	must(t, "mount", "-t", "ext4", "-o", "ro", device, dir)
	holds(t, file, content)
	holds(t, filepath.Join(dir, "second"), content[:1_000_000])
	must(t, "umount", dir)
	nbdEnds(t, again, device)
	if !bytes.Equal(read(t, image), before) {
		t.Error("the image has changed")
	}

	server, device = nbdAttached(t, "--overlay", filepath.Join(t.TempDir(), "scratch"), image)
	must(t, "fio", "--name=v", "--filename="+device, "--direct=1", "--rw=randwrite", "--bs=4k", "--size=512k", "--fsync=64",
		"--iodepth=1", "--numjobs=1", "--verify=crc32c", "--verify_fatal=1")
	must(t, "blkdiscard", device)
	holds(t, device, make([]byte, len(before)))
	nbdEnds(t, server, device)

	complaintOf(t, run(t, caravel, "mkdev", "--via=loop", "--overlay", over, image), 2, "--overlay")
	complaintOf(t, run(t, caravel, "mkdev", "--via=nbd", "--block-size=4096", "--overlay", filepath.Join(t.TempDir(), "o"), writeFile(t, filepath.Join(t.TempDir(), "odd"), content[:5000])), 2, "--overlay-size")
	if _, err := os.Stat(over); errors.Is(err, os.ErrNotExist) {
		t.Error("the overlay is gone")
	}
}
