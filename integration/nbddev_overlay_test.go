//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// testNBDOverlayReplaced replaces the worker of a device that is written to all the
// time: each write is done once, and the kernel notices nothing.
func testNBDOverlayReplaced(t *testing.T) {
	const size, writers = 8 << 20, 4
	image := writeFile(t, filepath.Join(t.TempDir(), "disk.img"), make([]byte, size))
	server, device := nbdAttached(t, "--supervise", "--overlay", filepath.Join(t.TempDir(), "over"), image)
	want := make([]byte, size)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { scribble(t, device, want, i*size/writers, size/writers, stop) })
	}
	halt := sync.OnceFunc(func() { close(stop); all.Wait() })
	defer halt()
	worker := func() int { return nbdList(t, device).PID }
	for range times(3, 30) {
		old, begun := worker(), time.Now()
		must(t, "kill", "-HUP", fmt.Sprint(server.cmd.Process.Pid))
		for now := old; now == old || now == 0; now = worker() {
			if time.Since(begun) > time.Minute {
				t.Fatalf("process %d still serves: %s", old, server.stderr)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	halt()
	if text := server.stderr.String(); strings.Contains(text, "WARN") {
		t.Errorf("not handed over: %s", text)
	}
	holds(t, device, want)
	nbdEnds(t, server, device)
}

// scribble writes pieces of whole sectors to a stripe of a device, past the
// kernel's cache, until it is told to stop, and notes in disk what is there then.
func scribble(t *testing.T, device string, disk []byte, off, n int, stop <-chan struct{}) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	p, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = unix.Munmap(p) }()
	for rng := rand.New(rand.NewPCG(uint64(off), 7)); ; {
		select {
		case <-stop:
			return
		default:
		}
		size := 512 * (1 + rng.IntN(len(p)/512))
		at := off + 512*rng.IntN((n-size)/512)
		for i := range p[:size] {
			p[i] = byte(rng.Uint32())
		}
		if _, err := f.WriteAt(p[:size], int64(at)); err != nil {
			t.Error(err)
			return
		}
		copy(disk[at:], p[:size])
	}
}
