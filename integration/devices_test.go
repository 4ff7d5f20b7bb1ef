//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestMakeOfDevices makes the index that casync makes of the same block device,
// which ends where its file system does.
func TestMakeOfDevices(t *testing.T) {
	need(t, "casync")
	tree := goroot(t, "src", "encoding")
	const size = 12 << 20
	for _, tt := range []struct {
		name string
		fill func(t *testing.T, path string)
		ends bool // before the device does
	}{
		{"ext4", func(t *testing.T, path string) { ext4(t, path, tree, 8) }, true},
		{"ext4 of 1 KiB blocks", func(t *testing.T, path string) {
			need(t, "mkfs.ext4")
			must(t, "mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^64bit", "-d", tree, path, "5003")
		}, true},
		{"ext2", func(t *testing.T, path string) {
			need(t, "mkfs.ext2")
			must(t, "mkfs.ext2", "-q", "-F", "-d", tree, path, "6M")
		}, true},
		{"squashfs", func(t *testing.T, path string) {
			need(t, "mksquashfs")
			must(t, "mksquashfs", tree, path, "-noappend", "-quiet", "-no-progress")
		}, true},
		{"plain data", func(t *testing.T, path string) { random(t, path, size/2) }, false},
		{"ext4 as large as the device", func(t *testing.T, path string) { ext4(t, path, tree, size>>20) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			device, file := loop(t, size)
			content := filepath.Join(t.TempDir(), "content")
			tt.fill(t, content)
			b := read(t, content)
			f, err := os.OpenFile(device, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Write(b)
			if err == nil {
				err = f.Sync()
			}
			if closeErr := f.Close(); err != nil || closeErr != nil {
				t.Fatal(err, closeErr)
			}
			dir := t.TempDir()
			theirs, ours := filepath.Join(dir, "theirs.caibx"), filepath.Join(dir, "ours.caibx")
			want := must(t, "casync", "make", "--store="+filepath.Join(dir, "theirs.castr"), theirs, device)
			r := run(t, caravel, "make", "--store="+filepath.Join(dir, "ours.castr"), ours, device)
			if r.status != 0 || r.stdout != want {
				t.Errorf("digest %q, casync says %q: %s", r.stdout, want, r.stderr)
			}
			same(t, ours, theirs)
			if said := strings.Contains(r.stderr, "ends at its file system"); said != tt.ends {
				t.Errorf("said that the device is cut: %v, want %v: %s", said, tt.ends, r.stderr)
			}
			out := filepath.Join(dir, "out")
			must(t, caravel, "extract", "--store="+filepath.Join(dir, "ours.castr"), ours, out)
			whole := read(t, file)
			got := read(t, out)
			if !bytes.Equal(got, whole[:len(got)]) || tt.ends == (len(got) == len(whole)) {
				t.Errorf("%d bytes of a device of %d", len(got), len(whole))
			}
		})
	}
}

// TestExtractToDevices leaves on a block device what casync leaves: a larger
// one keeps what is behind the image.
func TestExtractToDevices(t *testing.T) {
	need(t, "casync")
	const size = 3 << 20
	d := newDisk(t, size-12_345)
	var left [][]byte
	for _, program := range []string{caravel, "casync"} {
		device, file := loop(t, size)
		must(t, program, "extract", "--store="+d.store, d.index, device)
		must(t, "sync")
		left = append(left, read(t, file))
		if got := must(t, caravel, "cat", "--store="+d.store, d.index); got != string(left[len(left)-1][:len(d.data)]) {
			t.Errorf("%s left other bytes", program)
		}
	}
	if !bytes.Equal(left[0], left[1]) {
		t.Error("the devices differ")
	}
	device, file := loop(t, size-16<<10)
	before := read(t, file)
	complaint(t, run(t, caravel, "extract", "--store="+d.store, d.index, device), device)
	must(t, "sync")
	holds(t, file, before)
	if r := run(t, "casync", "extract", "--store="+d.store, d.index, device); r.status == 0 {
		t.Error("casync extracts to a device that is too small")
	}
}

// TestMakeOfPipes makes of a pipe what it makes of the file.
func TestMakeOfPipes(t *testing.T) {
	d := newDisk(t, 1_500_001)
	index := read(t, d.index)
	digest := must(t, caravel, "digest", d.image)
	made := func(what string, r result, path string) {
		t.Helper()
		if r.status != 0 || r.stdout != digest {
			t.Errorf("%s: status %d, digest %q, want %q: %s", what, r.status, r.stdout, digest, r.stderr)
		}
		holds(t, path, index)
	}
	args := []string{"make", "--chunk-size=4K", "--store=" + d.path("other.castr")}

	fifo, out := newFIFO(t), d.path("fifo.caibx")
	writer := start(t, "cp", d.image, fifo)
	made("FIFO", run(t, caravel, append(args, out, fifo)...), out)
	if status := writer.wait(); status != 0 {
		t.Errorf("cp: status %d: %s", status, writer.stderr)
	}

	out = d.path("pipe.caibx")
	made("pipe", runWith(t, func(cmd *exec.Cmd) {
		cmd.Stdin = bytes.NewBuffer(d.data) // no file: a pipe
	}, caravel, append(args, out, "-")...), out)

	out = d.path("file.caibx")
	f, err := os.Open(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	made("file on standard input", runWith(t, func(cmd *exec.Cmd) { cmd.Stdin = f }, caravel, append(args, out, "-")...), out)

	r := run(t, caravel, append(args, "-", d.image)...)
	if r.status != 0 || r.stdout != string(index) || !strings.Contains(r.stderr, strings.TrimSpace(digest)) {
		t.Errorf("index on standard output: status %d, %d bytes: %s", r.status, len(r.stdout), r.stderr)
	}
}

// TestExtractToPipes writes the image in order to what can take no other.
func TestExtractToPipes(t *testing.T) {
	d := newDisk(t, 1_500_001)
	if got := must(t, caravel, "extract", d.index, "-"); got != string(d.data) {
		t.Errorf("standard output: %d bytes, want %d", len(got), len(d.data))
	}
	fifo, out := newFIFO(t), d.path("out")
	reader := start(t, "cp", fifo, out)
	must(t, caravel, "extract", d.index, fifo)
	if status := reader.wait(); status != 0 {
		t.Errorf("cp: status %d: %s", status, reader.stderr)
	}
	holds(t, out, d.data)
	if st, err := os.Lstat(fifo); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the FIFO was replaced: %v", err)
	}
	// A reader that leaves early is no success.
	r := run(t, "sh", "-c", `"$0" extract "$1" - 2>"$2" | head -c 1000; cat "$2"`, caravel, d.index, d.path("err"))
	if !strings.HasPrefix(r.stdout, string(d.data[:1000])) || !strings.Contains(r.stdout[1000:], "caravel: ") {
		t.Errorf("half a pipe: %q", r.stdout[min(1000, len(r.stdout)):])
	}
}

// newFIFO makes a named pipe.
func newFIFO(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFOs here: %v", err)
	}
	return path
}

// TestMakeFSSize ends image files where the file systems in them do.
func TestMakeFSSize(t *testing.T) {
	tree := goroot(t, "src", "encoding", "json")
	for _, tt := range []struct {
		name string
		size int64 // of the file, which the file system fills; 0: as large as it needs
		make []string
	}{
		{"ext4", 8 << 20, []string{"mkfs.ext4", "-q", "-F", "FILE"}},
		{"xfs", 300 << 20, []string{"mkfs.xfs", "-q", "FILE"}},
		{"btrfs", 128 << 20, []string{"mkfs.btrfs", "-q", "FILE"}},
		{"vfat", 40 << 20, []string{"mkfs.vfat", "-F32", "FILE"}},
		{"fat of a floppy disk", 1440 << 10, []string{"mkfs.vfat", "FILE"}},
		{"squashfs", 0, []string{"mksquashfs", tree, "FILE", "-noappend", "-quiet", "-no-progress"}},
		{"erofs", 0, []string{"mkfs.erofs", "FILE", tree}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			need(t, tt.make[0])
			t.Parallel()
			path := filepath.Join(t.TempDir(), "fs.img")
			if tt.size > 0 {
				ofSize(t, path, tt.size)
			}
			args := slices.Clone(tt.make)
			args[slices.Index(args, "FILE")] = path
			must(t, args[0], args[1:]...)
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			want := st.Size()
			ofSize(t, path, want+12345)
			var made struct{ Size int64 }
			for _, flag := range []string{"--fs-size", "--fs-size=no"} {
				r := run(t, caravel, "make", "--no-store", "--json", flag, filepath.Join(t.TempDir(), "x.caibx"), path)
				if err := json.Unmarshal([]byte(r.stdout), &made); err != nil || r.status != 0 {
					t.Fatalf("%v: %s", err, r.stderr)
				}
				if made.Size != want {
					t.Errorf("%s: %d bytes, want %d: %s", flag, made.Size, want, r.stderr)
				}
				want += 12345
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "data")
		random(t, path, 100_000)
		complaint(t, run(t, caravel, "make", "--no-store", "--fs-size", filepath.Join(t.TempDir(), "x.caibx"), path), path, "no file system")
	})
}

// ofSize gives a file a size, and makes it if there is none.
func ofSize(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
}
