//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// TestOverlay writes to an image through an overlay, which has it the next time,
// too, also after a kill.
func TestOverlay(t *testing.T) {
	need(t, "nbdcopy", "nbdinfo", "qemu-io")
	d := newDisk(t, 1_000_001)
	index := read(t, d.index)
	over := filepath.Join(t.TempDir(), "over")
	want := append(bytes.Clone(d.data), make([]byte, 447)...)
	serve := func(args ...string) (*daemon, string) {
		return startNBD(t, append([]string{"--socket", filepath.Join(shortDir(t), "s"), "--overlay", over}, args...)...)
	}
	write := func(uri string, pattern byte, off, n int) {
		t.Helper()
		must(t, "qemu-io", "-f", "raw", "-c", fmt.Sprintf("write -P %#x %d %d", pattern, off, n), uri)
		copy(want[off:], bytes.Repeat([]byte{pattern}, n))
	}
	out := filepath.Join(t.TempDir(), "out")
	same := func(uri string) {
		t.Helper()
		must(t, "nbdcopy", uri, out)
		holds(t, out, want)
	}

	server, uri := serve(d.index)
	if info := must(t, "nbdinfo", uri); !strings.Contains(info, "is_read_only: false") || !strings.Contains(info, "export-size: 1000448 ") {
		t.Errorf("%s", info)
	}
	same(uri)
	write(uri, 0xaa, 1024, 10240)
	write(uri, 0xbb, 999_936, 512)
	must(t, "qemu-io", "-f", "raw", "-c", "write -z 65536 131072", "-c", "flush", uri)
	clear(want[65536:][:131072])
	same(uri)
	if r := run(t, caravel, "nbd-server", "--socket", filepath.Join(shortDir(t), "s"), "--overlay", over, d.index); r.status != 1 || !strings.Contains(r.stderr, over) {
		t.Errorf("used twice: status %d: %s", r.status, r.stderr)
	}
	server.ends(syscall.SIGTERM, soon)

	server, uri = serve(d.index)
	same(uri)
	write(uri, 0xcc, 500_224, 4096)
	_ = server.cmd.Process.Kill()
	<-server.exited

	server, uri = serve(d.index)
	same(uri)
	server.ends(syscall.SIGTERM, soon)
	holds(t, d.index, index)

	for _, flag := range []string{"--overlay=", "--socket=", "--tls-ca="} {
		complaintOf(t, run(t, caravel, "nbd-server", flag, d.index), 2, flag[:len(flag)-1], "says nothing")
	}

	// A plain file that has changed is another image.
	plain := writeFile(t, filepath.Join(t.TempDir(), "plain.img"), d.data)
	overPlain := filepath.Join(t.TempDir(), "over")
	server, _ = startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--overlay", overPlain, plain)
	server.ends(syscall.SIGTERM, soon)
	if err := os.Chtimes(plain, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "nbd-server", "--socket", filepath.Join(shortDir(t), "s"), "--overlay", overPlain, plain), overPlain, "another image")

	other := newDisk(t, 1_000_002)
	complaint(t, run(t, caravel, "nbd-server", "--socket", filepath.Join(shortDir(t), "s"), "--overlay", over, other.index), over, "another image")
	complaintOf(t, run(t, caravel, "nbd-server", "--overlay", over, d.index, writeFile(t, filepath.Join(t.TempDir(), "b.img"), nil)), 2, "one image")
	complaintOf(t, run(t, caravel, "nbd-server", "--overlay-size=2M", d.index), 2, "--overlay-size goes with --overlay")
}

// TestOverlaySize makes a disk larger than its image.
func TestOverlaySize(t *testing.T) {
	need(t, "nbdcopy")
	d := newDisk(t, 100_000)
	over := filepath.Join(t.TempDir(), "over")
	complaintOf(t, run(t, caravel, "nbd-server", "--overlay", over, "--overlay-size=99999", d.index), 2, "less than the image's 100000")
	absent(t, over)
	want := append(bytes.Clone(d.data), make([]byte, 3_000_320-100_000)...)
	for _, size := range [][]string{{"--overlay-size=3000001"}, {"--overlay-size=3000001"}, nil} {
		server, uri := startNBD(t, append(size, "--socket", filepath.Join(shortDir(t), "s"), "--overlay", over, d.index)...)
		out := filepath.Join(t.TempDir(), "out")
		must(t, "nbdcopy", uri, out)
		holds(t, out, want)
		server.ends(syscall.SIGTERM, soon)
	}
	complaint(t, run(t, caravel, "nbd-server", "--overlay", over, "--overlay-size=4000000", d.index), over, "3000320", "4000256")
}

// TestBoot starts a virtual machine from an image that lies 20 ms away and has a
// small system, which counts how often it was started and asks for a login.
func TestBoot(t *testing.T) {
	t.Parallel() // it waits for the machine most of the time
	_, boot := needVM(t)
	need(t, "mkfs.ext4")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox")
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, folder := range []string{"bin", "sbin", "dev", "proc", "etc", "usr/share"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), read(t, busybox), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/sh", "sbin/init"} {
		if err := os.Symlink("/bin/busybox", filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(root, "etc/inittab"), []byte(`::sysinit:/bin/busybox mount -t proc proc /proc
::sysinit:/bin/busybox mount -t devtmpfs dev /dev
::sysinit:/bin/busybox sh -c 'echo >>/starts; busybox sync; echo start $(busybox wc -l </starts) of it >/etc/issue'
ttyS0::respawn:/bin/busybox getty -L 115200 ttyS0 vt100
`))
	ballast := make([]byte, 200<<20) // that nobody needs
	_, _ = rand.NewChaCha8([32]byte{77}).Read(ballast)
	writeFile(t, filepath.Join(root, "usr/share/ballast"), ballast)
	image := filepath.Join(dir, "disk.img")
	must(t, "mkfs.ext4", "-q", "-F", "-d", root, image, "300M")
	must(t, caravel, "make", filepath.Join(dir, "disk.caibx"), image)

	far, err := origin.Start(dir, origin.Options{RTT: 20 * time.Millisecond, Bandwidth: 125e6})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for i := range 2 {
		server, uri := startNBD(t, "--socket", filepath.Join(shortDir(t), "s"), "--no-sweep", "--overlay", filepath.Join(dir, "over"), far.URL()+"/disk.caibx")
		far.Reset()
		seconds := must(t, boot, "--writable", "--timeout", "120", "--until", fmt.Sprintf("start %d of it", i+1), uri)
		if n := far.Counts().Bytes; n > 30<<20 {
			t.Errorf("start %d fetched %d bytes", i+1, n)
		}
		t.Logf("start %d: %s s, %d bytes fetched", i+1, strings.TrimSpace(seconds), far.Counts().Bytes)
		server.ends(syscall.SIGTERM, soon)
	}
}
