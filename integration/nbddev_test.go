//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// needNBD skips the test where the kernel has no nbd driver.
func needNBD(t *testing.T) {
	t.Helper()
	needRoot(t)
	_ = exec.Command("modprobe", "nbd").Run()
	if _, err := os.Stat("/sys/module/nbd"); err != nil {
		t.Skip("the kernel has no nbd driver; TestNBDDeviceInVM brings one that has")
	}
}

// TestNBDDevice is about mkdev by the kernel's nbd driver.
func TestNBDDevice(t *testing.T) {
	needNBD(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	t.Run("sizes", testNBDSizes)
	t.Run("partitions", testNBDPartitions)
	t.Run("file systems", testNBDFileSystems)
	t.Run("together", testNBDTogether)
	t.Run("detach", testNBDDetach)
	t.Run("refused", testNBDRefused)
	t.Run("chosen", testNBDChosen)
	t.Run("detach supervised", testNBDDetachSupervised)
	t.Run("new program", testNBDNewProgram)
	t.Run("overlay", testNBDOverlay)
	t.Run("overlay replaced", testNBDOverlayReplaced)
	t.Run("crashes", func(t *testing.T) { // which are waited for, most of the time
		for name, test := range map[string]func(*testing.T){
			"killed":     testNBDKilled,
			"supervised": testNBDSupervised,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
		}
	})
	t.Run("waits", func(t *testing.T) { // which they do, most of the time
		for name, test := range map[string]func(*testing.T){
			"hangs":         testNBDHangs,
			"slow replaced": testNBDSlowReplaced,
			"dead":          testNBDDead,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
		}
	})
	t.Run("nbd-client", testNBDClient)
	t.Run("udev", testNBDUdev)
}

// nbdAttached starts mkdev and returns the device that it says.
func nbdAttached(t *testing.T, args ...string) (*daemon, string) {
	t.Helper()
	d := start(t, caravel, append([]string{"mkdev", "--via=nbd"}, args...)...)
	device := d.expect("Attached: ")
	t.Cleanup(func() { // what a failed test leaves
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(soon):
		}
		_ = exec.Command(caravel, "mkdev", "--detach", device).Run()
	})
	return d, device
}

// nbdEnds tells mkdev to end, and checks that the device is free.
func nbdEnds(t *testing.T, d *daemon, device string) {
	t.Helper()
	if status := d.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, d.stderr)
	}
	nbdFree(t, device)
}

func nbdFree(t *testing.T, device string) {
	t.Helper()
	absent(t, "/sys/block/"+filepath.Base(device)+"/pid")
	absent(t, "/run/caravel/"+filepath.Base(device))
}

// nbdImage writes an image of random bytes.
func nbdImage(t *testing.T, seed, size int) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk.img")
	recipe{seed: uint64(seed), size: size, kind: "random"}.write(t, path)
	return path, read(t, path)
}

// padded is what a device shows of an image.
func padded(data []byte, sector int) []byte {
	return append(bytes.Clone(data), make([]byte, (sector-len(data)%sector)%sector)...)
}

func sysBlock(t *testing.T, device, name string) string {
	t.Helper()
	return strings.TrimSpace(string(read(t, filepath.Join("/sys/block", filepath.Base(device), name))))
}

// testNBDSizes attaches images of any size as they are, up to the end of a sector.
func testNBDSizes(t *testing.T) {
	for _, tt := range []struct {
		size, sector int
	}{{1, 512}, {700*512 + 1, 512}, {2 << 20, 512}, {300_001, 4096}} {
		image, data := nbdImage(t, tt.size, tt.size)
		server, device := nbdAttached(t, fmt.Sprintf("--block-size=%d", tt.sector), image)
		holds(t, device, padded(data, tt.sector))
		if got := sysBlock(t, device, "ro") + " " + sysBlock(t, device, "queue/logical_block_size"); got != fmt.Sprintf("1 %d", tt.sector) {
			t.Errorf("read-only and sector size: %s", got)
		}
		if err := os.WriteFile(device, []byte("mine"), 0); err == nil {
			t.Errorf("%s can be written", device)
		}
		nbdEnds(t, server, device)
	}
	d := newDisk(t, 300_001)
	server, device := nbdAttached(t, d.index)
	holds(t, device, padded(d.data, 512))
	nbdEnds(t, server, device)
}

// testNBDPartitions finds the partitions of a GPT disk.
func testNBDPartitions(t *testing.T) {
	_, data := nbdImage(t, 4, 4<<20)
	gpt(data, [][2]uint64{{64, 1000}, {2048, 4095}})
	image := filepath.Join(t.TempDir(), "gpt.img")
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	server, device := nbdAttached(t, image)
	holds(t, device+"p1", data[64*512:1001*512])
	holds(t, device+"p2", data[2048*512:4096*512])
	nbdEnds(t, server, device)
	absent(t, device+"p1")
}

// testNBDFileSystems mounts file systems out of images.
func testNBDFileSystems(t *testing.T) {
	need(t, "mkfs.ext4", "mksquashfs", "mkfs.erofs", "mount")
	tree := t.TempDir()
	for i := range 20 {
		recipe{seed: uint64(i), size: 10_000 * i, kind: "random"}.write(t, filepath.Join(tree, fmt.Sprint(i)))
	}
	for kind, mkfs := range map[string][]string{
		"ext4":     {"mkfs.ext4", "-q", "-F", "-b", "1024", "-d", tree, "IMAGE", "8M"},
		"squashfs": {"mksquashfs", tree, "IMAGE", "-noappend", "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"},
		"erofs":    {"mkfs.erofs", "IMAGE", tree},
	} {
		image := filepath.Join(t.TempDir(), kind)
		for i := range mkfs {
			mkfs[i] = strings.Replace(mkfs[i], "IMAGE", image, 1)
		}
		must(t, mkfs[0], mkfs[1:]...)
		server, device := nbdAttached(t, image)
		dir := t.TempDir()
		must(t, "mount", "-t", kind, "-o", "ro", device, dir)
		for i := range 20 {
			same(t, filepath.Join(dir, fmt.Sprint(i)), filepath.Join(tree, fmt.Sprint(i)))
		}
		must(t, "umount", dir)
		nbdEnds(t, server, device)
	}
}

// testNBDTogether starts some at the same time: each gets a device of its own.
func testNBDTogether(t *testing.T) {
	n := times(2, 8)
	devices := make([]string, n)
	servers := make([]*daemon, n)
	images := make([][]byte, n)
	for i := range n {
		var image string
		image, images[i] = nbdImage(t, 100+i, 20_000)
		servers[i] = start(t, caravel, "mkdev", "--via=nbd", image)
	}
	taken := map[string]bool{}
	for i := range n {
		devices[i] = servers[i].expect("Attached: ")
		if taken[devices[i]] {
			t.Errorf("%s is taken twice", devices[i])
		}
		taken[devices[i]] = true
	}
	var all sync.WaitGroup
	for i := range n {
		holds(t, devices[i], padded(images[i], 512))
		all.Go(func() { nbdEnds(t, servers[i], devices[i]) })
	}
	all.Wait()
}

// nbdList is what --list --json says of a device.
func nbdList(t *testing.T, device string) (d struct {
	Device, State, Link, Image string
	Size                       int64
	PID                        int
}) {
	t.Helper()
	all := must(t, caravel, "mkdev", "--list", "--json")
	for line := range strings.Lines(all) {
		if strings.Contains(line, `"`+device+`"`) {
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("%s is not in the list:\n%s", device, all)
	return d
}

// testNBDDetach detaches devices by any name, be there a process or not, but none
// that is in use.
func testNBDDetach(t *testing.T) {
	image, data := nbdImage(t, 5, 10_000)
	link := filepath.Join(t.TempDir(), "link")
	server, device := nbdAttached(t, image, link)
	if got := nbdList(t, device); got.State != "served" || got.PID != server.cmd.Process.Pid || got.Size != 10_240 || got.Link != link || got.Image != image {
		t.Errorf("listed as %+v", got)
	}
	f, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "mkdev", "--detach", link), device, "in use", fmt.Sprint(os.Getpid()))
	holds(t, link, padded(data, 512))
	f.Close()
	must(t, caravel, "mkdev", "--detach", link)
	if status := server.wait(); status != 0 {
		t.Errorf("status %d: %s", status, server.stderr)
	}
	nbdFree(t, device)
	absent(t, link)

	server, device = nbdAttached(t, image, link)
	server.stop(syscall.SIGKILL)
	if got := nbdList(t, device); got.State != "waiting" || got.PID != 0 {
		t.Errorf("listed as %+v", got)
	}
	must(t, caravel, "mkdev", "--detach", device)
	nbdFree(t, device)
	absent(t, link)
	complaint(t, run(t, caravel, "mkdev", "--detach", device), device, "not a device that caravel mkdev has attached")
}

// testNBDRefused goes on with no device but the one of the same image, and with
// none that is served.
func testNBDRefused(t *testing.T) {
	one, data := nbdImage(t, 6, 10_000)
	two, _ := nbdImage(t, 7, 10_000)
	link := filepath.Join(t.TempDir(), "link")
	server, device := nbdAttached(t, one, link)
	complaint(t, run(t, caravel, "mkdev", "--via=nbd", one, device), device, "serves it")
	complaint(t, run(t, caravel, "mkdev", "--via=nbd", two, link), device, "serves it")
	server.stop(syscall.SIGKILL)
	complaint(t, run(t, caravel, "mkdev", "--via=nbd", two, device), device, "another image", "--detach")
	complaint(t, run(t, caravel, "mkdev", "--via=nbd", two, link), device, "another image")
	complaint(t, run(t, caravel, "mkdev", "--via=nbd", "--block-size=1K", one, link), device, "--block-size=512")
	again, same := nbdAttached(t, one, link)
	if same != device {
		t.Errorf("%s, want %s again", same, device)
	}
	holds(t, link, padded(data, 512))
	nbdEnds(t, again, device)

	// Without a NODE, the one that waits.
	server, device = nbdAttached(t, one)
	server.stop(syscall.SIGKILL)
	again, same = nbdAttached(t, one)
	if same != device {
		t.Errorf("%s, want %s again", same, device)
	}
	nbdEnds(t, again, device)
}

// gpt writes a partition table of that kind, as the UEFI specification has it in
// its section 5.3: of each partition, the first and last sector.
func gpt(disk []byte, parts [][2]uint64) {
	const sector, entrySize, entries = 512, 128, 128
	le := binary.LittleEndian
	// The old table protects the disk from those that know no other.
	mbr := disk[446:]
	mbr[4] = 0xee
	le.PutUint32(mbr[8:], 1)
	le.PutUint32(mbr[12:], uint32(len(disk)/sector-1))
	clear(disk[446+16 : 510])
	disk[446] = 0
	disk[510], disk[511] = 0x55, 0xaa

	table := disk[2*sector:][:entries*entrySize]
	clear(table)
	for i, p := range parts {
		e := table[i*entrySize:]
		copy(e, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4") // Linux data
		e[16] = byte(i + 1)                                                         // of its own ID
		le.PutUint64(e[32:], p[0])
		le.PutUint64(e[40:], p[1])
	}
	h := disk[sector:][:92]
	clear(disk[sector:][:sector])
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	last := uint64(len(disk)/sector - 1)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], last)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], last-33)
	h[56] = 1 // of the disk's ID
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}
