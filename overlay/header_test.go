package overlay

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// resum puts the checksum right.
func resum(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[summed:], uint64(crc32.Checksum(b[:summed], castagnoli)))
	return b
}

// set puts a number at an offset, and the checksum right.
func set(b []byte, off int, n uint64) []byte {
	binary.LittleEndian.PutUint64(b[off:], n)
	return resum(b)
}

// fresh is the bytes of a new file for a base of 50,000 bytes, and its path.
func fresh(t testing.TB) ([]byte, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	d, err := Open(path, stamped{}, 50_000, Options{Identity: [32]byte{0xaa}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, path
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"nothing", func(b []byte) []byte { return nil }, "offset 0: not an overlay"},
		{"magic", func(b []byte) []byte { b[3]++; return resum(b) }, "offset 0: not an overlay"},
		{"header cut", func(b []byte) []byte { return b[:headerSize-1] }, "offset 0: not an overlay"},
		{"version", func(b []byte) []byte { return set(b, 16, 2) }, "offset 16: an overlay of version 2, not 1"},
		{"checksum", func(b []byte) []byte { b[50]++; return b }, "offset 80: damaged header (checksum 0x"},
		{"block of 0", func(b []byte) []byte { return set(b, 24, 0) }, "offset 24: blocks of 0 bytes: want a power of two from 4096 to 65536"},
		{"block of 2^63", func(b []byte) []byte { return set(b, 24, 1<<63) }, "offset 24: blocks of "},
		{"block of 6000", func(b []byte) []byte { return set(b, 24, 6000) }, "offset 24: blocks of 6000 bytes"},
		{"block of 128K", func(b []byte) []byte { return set(b, 24, 128<<10) }, "offset 24: blocks of 131072 bytes"},
		{"huge", func(b []byte) []byte { return set(b, 32, 1<<50+1) }, "offset 32: a disk of 1125899906842625 bytes: want at most"},
		{"negative", func(b []byte) []byte { return set(b, 32, 1<<64-1) }, "offset 32: a disk of 18446744073709551615 bytes"},
		{"below its base", func(b []byte) []byte { return set(b, 32, 49_999) }, "offset 40: a base of 50000 bytes below a disk of 49999"},
		{"other base size", func(b []byte) []byte { return set(b, 40, 49_999) }, "belongs to a base of 49999 bytes, not 50000"},
		{"other image", func(b []byte) []byte { b[48] = 0xbb; return resum(b) }, "belongs to another image (bb00000000000000000000000000000000000000000000000000000000000000, not aa"},
		{"larger", func(b []byte) []byte { return set(b, 32, 60_000) }, "offset 69632: the file ends here, not at 77824"},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "offset 69631: the file ends here, not at 69632"},
		{"grown", func(b []byte) []byte { return append(b, 0) }, "offset 69633: the file ends here, not at 69632"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, path := fresh(t)
			b = tt.spoil(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path, stamped{}, 50_000, Options{Identity: [32]byte{0xaa}})
			if err == nil || !strings.Contains(err.Error(), path+": "+tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Errorf("the file was changed, or %v", err)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	_, path := fresh(t)
	for _, tt := range []struct {
		size int64
		opt  Options
		want string
	}{
		{50_000, Options{Identity: [32]byte{0xaa}, Size: 60_000}, "has a disk of 50000 bytes, not 60000: an overlay keeps"},
		{50_000, Options{}, "belongs to another image"},
		{-1, Options{}, "a disk of 18446744073709551615 bytes"},
		{10, Options{Size: 9}, "a base of 10 bytes below a disk of 9"},
		{10, Options{Block: 512}, "blocks of 512 bytes"},
	} {
		if _, err := Open(path, stamped{}, tt.size, tt.opt); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q in it", tt.opt, err, tt.want)
		}
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                             "is not a regular file",
		link:                            "is a symbolic link",
		filepath.Join(dir, "no", "dir"): "the folder " + filepath.Join(dir, "no") + ": no such file or directory",
	} {
		if _, err := Open(path, stamped{}, 10, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// Whatever a file says, it is refused, or its header is the one that would be
// written, and each byte of the disk can be read and is written as said.
func FuzzOpen(f *testing.F) {
	b, _ := fresh(f)
	f.Add(b[:headerSize], int64(len(b)), []byte{}, []byte{})
	f.Add(b[:headerSize], int64(len(b)), []byte{0xff, 0xff, 0xff}, []byte{7})
	f.Add(set(bytes.Clone(b[:headerSize]), 24, 65536), int64(65536+65536), []byte{1}, []byte{1})
	f.Add(b[:50], int64(50), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, head []byte, length int64, durable, volatile []byte) {
		if len(head) >= headerSize {
			resum(head) // else nothing comes further than that
		}
		path := filepath.Join(t.TempDir(), "disk")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(length & (1<<40 - 1)); err != nil {
			t.Fatal(err)
		}
		for off, p := range map[int64][]byte{0: head, durableAt: durable, durableAt + pageSize: volatile} {
			if off+int64(len(p)) <= length {
				if _, err := file.WriteAt(p, off); err != nil {
					t.Fatal(err)
				}
			}
		}
		h, err := parseHeader(head)
		if err == nil && !bytes.Equal(h.encode(), head[:headerSize]) {
			t.Error("accepted, and would be written in another way")
		}
		d, err := open(path, stamped{}, h.base, Options{Identity: h.identity}, bootOf(1), plain)
		if err != nil {
			return
		}
		defer d.file.Close()
		p := make([]byte, min(d.Size(), 100_000))
		if _, err := d.ReadAt(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
		if len(p) == 0 {
			return
		}
		at := len(p) / 3
		p[at] ^= 0xff
		if _, err := d.WriteAt(t.Context(), p[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(p))
		if _, err := d.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, p) {
			t.Errorf("wrong bytes, or %v", err)
		}
	})
}
