package image

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// put builds a superblock of what lies where: text, or integers of 1 to 8 bytes.
func put(n int, at ...any) []byte {
	b := make([]byte, n)
	for i := 0; i < len(at); i += 2 {
		off := at[i].(int)
		switch v := at[i+1].(type) {
		case string:
			copy(b[off:], v)
		case byte:
			b[off] = v
		case uint16:
			binary.LittleEndian.PutUint16(b[off:], v)
		case uint32:
			binary.LittleEndian.PutUint32(b[off:], v)
		case uint64:
			binary.LittleEndian.PutUint64(b[off:], v)
		}
	}
	return b
}

const boot = "\x55\xaa"

func TestFileSystem(t *testing.T) {
	tests := []struct {
		name   string
		b      []byte
		kind   string
		size   int64
		casync bool // knows it too
	}{
		{"nothing", nil, "", 0, true},
		{"zeros", make([]byte, 100_000), "", 0, true},
		{"squashfs", put(96, 0, "hsqs", 40, uint64(5000)), "squashfs", 8192, true},
		{"squashfs of an absurd size", put(96, 0, "hsqs", 40, uint64(1<<63)), "", 0, true},
		{"squashfs cut short", []byte("hsqs"), "", 0, true},
		{"ext", put(2048, 1024+0x38, uint16(0xef53), 1024+4, uint32(5003)), "ext2/3/4", 5003 << 10, true},
		{"ext of 4 KiB, 64 bit", put(2048, 1024+0x38, uint16(0xef53), 1024+4, uint32(1), 1024+0x18, uint32(2), 1024+0x60, uint32(0x80), 1024+0x150, uint32(1)), "ext2/3/4", (1<<32 + 1) << 12, true},
		{"Android", put(4096, 0, "ANDROID!", 8, uint32(1), 16, uint32(4097), 36, uint32(4096)), "Android boot image", 4 * 4096, true},
		{"Android of odd pages", put(4096, 0, "ANDROID!", 36, uint32(4095)), "", 0, true},
		{"XFS", put(512, 0, "XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x01\x2c\x00"), "XFS", 0x12c00 << 12, false},
		{"XFS of odd blocks", put(512, 0, "XFSB\x00\x00\x10\x01\x00\x00\x00\x00\x00\x01\x2c\x00"), "", 0, false},
		{"XFS of an absurd size", put(512, 0, "XFSB\x00\x00\x10\x00\xff\xff\xff\xff\xff\xff\xff\xff"), "", 0, false},
		{"Btrfs", put(68<<10, 64<<10+0x40, "_BHRfS_M", 64<<10+0x88, uint64(1), 64<<10+0xd1, uint64(114294784)), "Btrfs", 114294784, false},
		{"Btrfs on two devices", put(68<<10, 64<<10+0x40, "_BHRfS_M", 64<<10+0x88, uint64(2), 64<<10+0xd1, uint64(114294784)), "", 0, false},
		{"EROFS", put(4096, 1024, uint32(0xe0f5e1e2), 1024+12, byte(12), 1024+36, uint32(77)), "EROFS", 77 << 12, false},
		{"EROFS of 48 bits", put(4096, 1024, uint32(0xe0f5e1e2), 1024+12, byte(12), 1024+36, uint32(77), 1024+80, uint32(0x80)), "", 0, false},
		{"F2FS", put(4096, 1024, uint32(0xf2f52010), 1024+16, uint32(12), 1024+36, uint64(12800)), "F2FS", 12800 << 12, false},
		{"F2FS of absurd blocks", put(4096, 1024, uint32(0xf2f52010), 1024+16, uint32(40), 1024+36, uint64(12800)), "", 0, false},
		{"ISO 9660", put(34<<10, 32<<10, "\x01CD001", 32<<10+80, uint32(333), 32<<10+128, uint16(2048)), "ISO 9660", 333 << 11, false},
		{"NTFS", put(512, 3, "NTFS    ", 11, uint16(512), 40, uint64(20479), 510, boot), "NTFS", 20480 << 9, false},
		{"exFAT", put(512, 3, "EXFAT   ", 72, uint64(20480), 108, byte(9), 510, boot), "exFAT", 20480 << 9, false},
		{"FAT12", put(512, 11, uint16(512), 19, uint16(2880), 54, "FAT12   ", 510, boot), "FAT", 2880 << 9, false},
		{"FAT32", put(512, 11, uint16(4096), 32, uint32(70000), 82, "FAT32   ", 510, boot), "FAT", 70000 << 12, false},
		{"FAT without its end", put(512, 11, uint16(512), 19, uint16(2880), 54, "FAT12   "), "", 0, false},
		{"a partition table", put(512, 446, "\x80\x00\x01\x00\x83", 510, boot), "", 0, false},
	}
	for _, tt := range tests {
		for _, all := range []bool{false, true} {
			kind, size := tt.kind, tt.size
			if !all && !tt.casync {
				kind, size = "", 0
			}
			gotKind, got, err := fileSystem(bytes.NewReader(tt.b), all)
			if err != nil || gotKind != kind || got != size {
				t.Errorf("%s, all %t: %q of %d bytes, %v; want %q of %d", tt.name, all, gotKind, got, err, kind, size)
			}
		}
	}
}

type badDisk struct{}

var errDisk = errors.New("cannot be read")

func (badDisk) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestFileSystemUnreadable(t *testing.T) {
	if _, _, err := fileSystem(badDisk{}, true); !errors.Is(err, errDisk) {
		t.Errorf("%v", err)
	}
}

func FuzzFileSystem(f *testing.F) {
	for _, text := range []string{"hsqs", "XFSB", "ANDROID!", "_BHRfS_M", "\x01CD001", "NTFS    ", "EXFAT   ", "FAT32   "} {
		f.Add([]byte(strings.Repeat(text, 20)), uint32(0))
	}
	magic, _ := hex.DecodeString("e2e1f5e0")
	f.Add(magic, uint32(1024))
	f.Fuzz(func(t *testing.T, b []byte, off uint32) {
		disk := append(make([]byte, off%allBytes), b...)
		if name, size, err := fileSystem(bytes.NewReader(disk), true); err != nil || size < 0 || (size == 0) != (name == "") {
			t.Errorf("%q of %d bytes, %v", name, size, err)
		}
	})
}
