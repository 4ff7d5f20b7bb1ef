package overlay_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"caravel/overlay"
)

// On a disk that is full a write fails, says why, and leaves what was there; when
// there is room again it goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1048576"); err != nil {
		t.Skipf("%s: tmpfs: %v", t.Name(), err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	const size, step = 4 << 20, 10_000
	base, path := noise(size), filepath.Join(dir, "disk")
	d := open(t, path, base, size, overlay.Options{})
	want := bytes.Clone(base.data)
	full := 0
	for off := int64(0); off < size-step; off += step {
		p := bytes.Repeat([]byte{byte(off/step) | 1}, step)
		_, err := d.WriteAt(t.Context(), p, off)
		switch {
		case err == nil:
			copy(want[off:], p)
		case errors.Is(err, syscall.ENOSPC):
			full++
		default:
			t.Fatal(err)
		}
	}
	if full == 0 {
		t.Error("was never full")
	}
	if err := d.Zero(t.Context(), 3<<20, 1<<20, true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Zero: %v", err)
	}
	// What was not written may have been, and is the base's if not.
	got := content(t, d)
	for i, b := range got {
		if b != want[i] && i < 3<<20 && b != byte(i/step)|1 {
			t.Fatalf("byte %d is %#x, not %#x", i, b, want[i])
		}
	}
	if err := errors.Join(d.Flush(t.Context()), d.Discard(t.Context(), 0, size/2)); err != nil {
		t.Fatal(err)
	}
	clear(got[:size/2])
	write(t, d, []byte("room"), size/2-4)
	copy(got[size/2-4:], "room")
	d = reopen(t, d, path, base, size, overlay.Options{})
	same(t, "opened again", content(t, d), got)
}

// There is no need to read or write much of the file of a huge disk.
func TestHuge(t *testing.T) {
	const size = 15 << 40
	path := temp(t)
	base := newKnowing(1<<20, 1<<20)
	d, err := overlay.Open(path, base, 1<<20, overlay.Options{Size: size})
	if errors.Is(err, syscall.EFBIG) {
		t.Skipf("%s: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, []byte("far away"), size-8)
	var holes int64
	for _, n := range d.Holes(0, size) {
		holes += n
	}
	if holes != size-4096 {
		t.Errorf("%d bytes of holes of %d", holes, int64(size))
	}
	if err := d.Discard(t.Context(), 0, size); err != nil { // as mkfs does
		t.Fatal(err)
	}
	d = reopen(t, d, path, base, 1<<20, overlay.Options{})
	p := make([]byte, 10)
	if _, err := d.ReadAt(t.Context(), p, size-10); err != nil || !bytes.Equal(p, make([]byte, 10)) {
		t.Errorf("%q, %v", p, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.Sys().(*syscall.Stat_t).Blocks * 512; n > 64<<10 {
		t.Errorf("%d bytes are used", n)
	}
}

// What the file system cannot hold leaves nothing behind.
func TestTooLarge(t *testing.T) {
	path := temp(t)
	d, err := overlay.Open(path, noise(10), 10, overlay.Options{Size: 1 << 50})
	if err == nil {
		d.Close()
		t.Skipf("%s: a file of 1 PiB can be made here", t.Name())
	}
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path+": a file of 112") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Who cuts the file while it is in use makes reads fail, not wrong bytes.
func TestCutInUse(t *testing.T) {
	path, base := temp(t), noise(100_000)
	d := open(t, path, base, 100_000, overlay.Options{})
	write(t, d, make([]byte, 8192), 50_000)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()-50_000); err != nil {
		t.Fatal(err)
	}
	if n, err := d.ReadAt(t.Context(), make([]byte, 100_000), 0); n > 57_344 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "was cut while in use") {
		t.Errorf("%d, %v", n, err)
	}
}
