package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Source is an opened file, block device or pipe that an image is made of.
type Source struct {
	io.Reader
	Size int64       // bytes that Reader will give; -1: unknown, a pipe
	Mode fs.FileMode // type and permissions of what was opened
	Cut  string      // the file system at whose end a block device was cut; ""

	file *os.File
}

// OpenSource opens what an image is made of. A block device ends where the
// file system on it does, if that is one of those that casync knows (ext2 to
// ext4, squashfs, Android boot images) and claims less than the device has.
func OpenSource(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := NewSource(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// NewSource is OpenSource for what is open already, from where it is read next.
// It belongs to the Source unless there is an error.
func NewSource(f *os.File) (*Source, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &Source{Reader: f, Size: -1, Mode: st.Mode(), file: f}
	switch {
	case st.IsDir():
		return nil, fmt.Errorf("image: %s: is a directory, not a file, block device or pipe", f.Name())
	case st.Mode().IsRegular():
		at, err := f.Seek(0, io.SeekCurrent)
		s.Size = max(st.Size()-at, 0)
		return s, err
	case isBlockDevice(st.Mode()):
		return s, s.measure()
	}
	return s, nil
}

func isBlockDevice(m fs.FileMode) bool {
	return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0
}

// measure finds the size of a block device, and of the file system on it.
func (s *Source) measure() error {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	end, err := s.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := s.file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	head := make([]byte, superblockBytes)
	n, err := s.file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if name, fsSize := fileSystem(head[:n]); fsSize > 0 && fsSize < end {
		end, s.Cut = fsSize, name
	}
	s.Size = max(end-at, 0)
	s.Reader = io.LimitReader(s.file, s.Size)
	return nil
}

// Close closes the file, which also ends a read that waits for a pipe.
func (s *Source) Close() error { return s.file.Close() }

// superblockBytes is how much of a device fileSystem wants to see.
const superblockBytes = 4096

// fileSystem tells from a device's first bytes how long the file system on it
// is, as casync does; "" and 0 if it is none of the known ones.
func fileSystem(head []byte) (name string, size int64) {
	for _, probe := range []struct {
		name string
		size func(head []byte) int64
	}{
		{"squashfs", squashfsSize},
		{"ext2/3/4", extSize},
		{"Android boot image", androidSize},
	} {
		if size := probe.size(head); size > 0 {
			return probe.name, size
		}
	}
	return "", 0
}

// squashfsSize reads bytes_used of a squashfs 4 superblock, rounded up to the
// 4 KiB that an image of one is padded to.
func squashfsSize(head []byte) int64 {
	if len(head) < 48 || string(head[:4]) != "hsqs" {
		return 0
	}
	return roundUp(binary.LittleEndian.Uint64(head[40:]), 4096)
}

// extSize multiplies the block count with the block size of an ext2, ext3 or
// ext4 superblock, which lies at byte 1024.
func extSize(head []byte) int64 {
	if len(head) < 2048 {
		return 0
	}
	super := head[1024:]
	if binary.LittleEndian.Uint16(super[0x38:]) != 0xef53 {
		return 0
	}
	const incompat64bit = 0x80
	blocks := uint64(binary.LittleEndian.Uint32(super[0x04:]))
	if binary.LittleEndian.Uint32(super[0x60:])&incompat64bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
	}
	shift := binary.LittleEndian.Uint32(super[0x18:])
	if shift > 6 || blocks > 1<<62>>(10+shift) { // blocks of 1 KiB to 64 KiB
		return 0
	}
	return int64(blocks << (10 + shift))
}

// androidSize adds up the page-aligned parts of an Android boot image: header,
// kernel, ramdisk, second stage and device tree.
func androidSize(head []byte) int64 {
	if len(head) < 44 || !bytes.HasPrefix(head, []byte("ANDROID!")) {
		return 0
	}
	field := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(head[8+4*i:])) }
	kernel, ramdisk, second, page, tree := field(0), field(2), field(4), field(7), field(8)
	if page == 0 || page&(page-1) != 0 {
		return 0
	}
	const header = 608 // bytes of the first page that are used
	var size int64
	for _, part := range []uint64{header, kernel, ramdisk, second, tree} {
		size += roundUp(part, page)
	}
	return size
}

// roundUp is n rounded up to a multiple of unit, or 0 if it is absurd.
func roundUp(n, unit uint64) int64 {
	if n > 1<<62 {
		return 0
	}
	return int64((n + unit - 1) / unit * unit)
}
