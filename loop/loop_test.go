//go:build linux

package loop_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caravel/fusefs"
	"caravel/internal/sector"
	"caravel/loop"
)

// canAttach skips t, and says why, where there are no loop devices.
func canAttach(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s: not root", t.Name())
	}
	for _, name := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(name); err != nil {
			t.Skipf("%s: no %s", t.Name(), name)
		}
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s: no %s", t.Name(), p)
		}
	}
}

type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func write(t testing.TB, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// attached makes a device of size bytes of r, by a mount of this process.
func attached(t testing.TB, r sector.Reader, size int64, opt loop.Options) *loop.Device {
	t.Helper()
	r, size = sector.Pad(r, size, max(512, opt.SectorSize))
	m, err := fusefs.MountFile(t.TempDir(), fusefs.File{Name: "disk", Size: size, Reader: r}, fusefs.Options{AsyncDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	d, err := loop.Attach(m.Dir+"/disk", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Detach(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func run(t testing.TB, name string, arg ...string) string {
	t.Helper()
	out, err := exec.Command(name, arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arg, err, out)
	}
	return string(out)
}

func TestDevice(t *testing.T) {
	canAttach(t, "cmp", "blockdev")
	for _, tt := range []struct {
		size, sector, want int
		buffered           bool
	}{
		{1 << 20, 0, 1 << 20, false},
		{1 << 20, 0, 1 << 20, true},
		{1<<20 + 1, 512, 1<<20 + 512, false},
		{3 << 20, 4096, 3 << 20, false},
		{3<<20 - 5, 4096, 3 << 20, true},
	} {
		t.Run(fmt.Sprintf("%d by %d, buffered %v", tt.size, tt.sector, tt.buffered), func(t *testing.T) {
			data := random(tt.size)
			d := attached(t, memory(data), int64(tt.size), loop.Options{SectorSize: tt.sector, Buffered: tt.buffered})
			sector := max(512, tt.sector)
			if got, want := run(t, "blockdev", "--getro", "--getsize64", "--getss", d.Path), fmt.Sprintf("1\n%d\n%d\n", tt.want, sector); got != want {
				t.Errorf("blockdev: %q, want %q", got, want)
			}
			padded := write(t, append(data, make([]byte, tt.want-tt.size)...))
			run(t, "cmp", padded, d.Path)
			if err := d.Detach(); err != nil {
				t.Error(err)
			}
			if err := d.Detach(); err != nil {
				t.Errorf("again: %v", err)
			}
			if _, err := os.Stat("/sys/block/" + filepath.Base(d.Path) + "/loop/backing_file"); err == nil {
				t.Error("still there")
			}
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	canAttach(t)
	odd := write(t, make([]byte, 1000))
	for _, tt := range []struct {
		path string
		opt  loop.Options
		want string
	}{
		{odd + "x", loop.Options{}, odd + "x: no such file or directory"},
		{odd, loop.Options{}, "size 1000: not a multiple of the sector size 512"},
		{odd, loop.Options{SectorSize: 1000}, "sector size 1000: not a power of two"},
		{t.TempDir(), loop.Options{}, "invalid argument"},
	} {
		d, err := loop.Attach(tt.path, tt.opt)
		if err == nil {
			d.Detach()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q in it", err, tt.want)
		}
	}
}

func TestFileSystem(t *testing.T) {
	canAttach(t, "mkfs.ext4", "mount", "umount")
	content := t.TempDir()
	if err := os.WriteFile(content+"/hello", random(300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	image := write(t, make([]byte, 8<<20))
	run(t, "mkfs.ext4", "-q", "-d", content, image)
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	d := attached(t, memory(data), int64(len(data)), loop.Options{})
	point := t.TempDir()
	run(t, "mount", "-o", "ro", d.Path, point)
	run(t, "cmp", content+"/hello", point+"/hello")

	err = d.Detach()
	if err == nil || !strings.Contains(err.Error(), d.Path+": in use: mounted on "+point) {
		t.Errorf("while mounted: %v", err)
	}
	run(t, "cmp", content+"/hello", point+"/hello")
	run(t, "umount", point)
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
}

func TestDetachWhileOpen(t *testing.T) {
	canAttach(t, "sh")
	d := attached(t, memory(random(1<<20)), 1<<20, loop.Options{})
	user := exec.Command("sh", "-c", "exec 3<"+d.Path+"; echo open; read x")
	stdin, err := user.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	want := fmt.Sprintf("loop: %s: in use: open by sh (%d)", d.Path, user.Process.Pid)
	if err := d.Detach(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	stdin.Close()
	user.Wait()
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
}

func TestPartitions(t *testing.T) {
	canAttach(t, "cmp")
	disk := random(1 << 20)
	clear(disk[:512])
	disk[446+4] = 0x83 // Linux, of 1000 sectors from 100
	copy(disk[446+8:], []byte{100, 0, 0, 0, 0xe8, 3, 0, 0})
	disk[510], disk[511] = 0x55, 0xaa
	d := attached(t, memory(disk), int64(len(disk)), loop.Options{Partitions: true})
	name := filepath.Base(d.Path)
	if on, err := os.ReadFile("/sys/block/" + name + "/partscan"); err == nil && string(on) != "1\n" {
		t.Errorf("partitions are not looked for: %q", on)
	}
	if !knowsPartitions(t) {
		t.Skipf("%s: this kernel knows no such partitions", t.Name())
	}
	size, err := os.ReadFile("/sys/block/" + name + "/" + name + "p1/size")
	if err != nil || string(size) != "1000\n" {
		t.Fatalf("partition: %q, %v", size, err)
	}
	run(t, "cmp", write(t, disk[100*512:1100*512]), d.Path+"p1")
}

// knowsPartitions reports whether the kernel knows a disk's old table.
func knowsPartitions(t *testing.T) bool {
	t.Helper()
	config, err := os.ReadFile("/proc/config.gz")
	if err != nil {
		return true // as most do
	}
	plain, err := gzip.NewReader(bytes.NewReader(config))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(all, []byte("CONFIG_MSDOS_PARTITION=y"))
}

type flaky struct {
	memory
	bad atomic.Bool
}

func (f *flaky) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f.bad.Load() && off < 600_000 && off+int64(len(p)) > 500_000 {
		return 0, errors.New("bad chunk")
	}
	return f.memory.ReadAt(ctx, p, off)
}

func TestBadRange(t *testing.T) {
	canAttach(t, "cmp", "dd")
	f := &flaky{memory: random(1 << 20)}
	f.bad.Store(true)
	d := attached(t, f, 1<<20, loop.Options{})
	out, err := exec.Command("dd", "if="+d.Path, "of=/dev/null", "bs=4096", "skip=130", "count=1").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("Input/output error")) {
		t.Errorf("bad range: %v\n%s", err, out)
	}
	run(t, "dd", "if="+d.Path, "of=/dev/null", "bs=4096", "skip=200", "count=50")
	f.bad.Store(false)
	run(t, "cmp", write(t, f.memory), d.Path)
}

// Many devices come and go at once while others read: nothing waits for
// itself, and no two get the same device.
func TestManyAtOnce(t *testing.T) {
	canAttach(t, "cmp")
	data := random(2 << 20)
	original := write(t, data)
	m, err := fusefs.MountFile(t.TempDir(), fusefs.File{Name: "disk", Size: 2 << 20, Reader: memory(data)}, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 5 {
				d, err := loop.Attach(m.Dir+"/disk", loop.Options{Partitions: true})
				if err != nil {
					t.Error(err)
					return
				}
				if out, err := exec.Command("cmp", original, d.Path).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if err := d.Detach(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}

// TestMain makes a daemon of this program where a test wants one to kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOOP_TEST_DAEMON"); dir != "" {
		daemon(dir)
		return
	}
	if dir := os.Getenv("LOOP_TEST_STUCK"); dir != "" {
		attachStuck(dir, os.Getenv("LOOP_TEST_STUCK_AT"))
	}
	if image := os.Getenv("LOOP_TEST_SERVE"); image != "" {
		serve(image)
		return
	}
	if path := os.Getenv("LOOP_TEST_READ"); path != "" {
		readers(path, os.Getenv("LOOP_TEST_LIKE"))
		return
	}
	os.Exit(m.Run())
}

func daemon(dir string) {
	m, err := fusefs.MountFile(dir, fusefs.File{Name: "disk", Size: 1 << 20, Reader: memory(random(1 << 20))}, fusefs.Options{})
	if err != nil {
		panic(err)
	}
	d, err := loop.Attach(m.Dir+"/disk", loop.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(d.Path)
	select {}
}

func TestKilledDaemon(t *testing.T) {
	canAttach(t, "umount")
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LOOP_TEST_DAEMON="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	backing := "/sys/block/" + filepath.Base(strings.TrimSpace(line)) + "/loop/backing_file"
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(backing); err != nil || !strings.HasPrefix(string(b), dir) {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the device stays")
		}
	}
	run(t, "umount", "-l", dir)
}
