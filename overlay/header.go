package overlay

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// The file; see section 16 of docs/formats.md.
const (
	magic      = "caravel overlay\n"
	version    = 1
	headerSize = 88
	summed     = headerSize - 8 // bytes that the checksum is of

	bootAt    = 4096 // where the boot ID is
	bootSize  = 16
	durableAt = 8192 // where the durable map begins

	pageSize   = 4096 // bytes of a map that are read and written together
	pageBlocks = 8 * pageSize

	minBlock = 4096
	maxBlock = 65536
	maxSize  = 1 << 50 // of a disk: what its maps take in memory is bounded
)

// A header says which disk a file has.
type header struct {
	block    int64 // bytes of a block
	size     int64 // of the disk
	base     int64 // size of the base
	identity [32]byte
}

// header is what a new file over a base of size bytes has.
func (o Options) header(size int64) (header, error) {
	h := header{block: cmp.Or(o.Block, minBlock), size: cmp.Or(o.Size, size), base: size, identity: o.Identity}
	_, err := h.check()
	return h, err
}

// check refuses what no file can have; it says where that stands.
func (h header) check() (at int64, err error) {
	switch {
	case h.block < minBlock || h.block > maxBlock || bits.OnesCount64(uint64(h.block)) != 1:
		return 24, fmt.Errorf("blocks of %d bytes: want a power of two from %d to %d", h.block, minBlock, maxBlock)
	case h.size < 0 || h.size > maxSize:
		return 32, fmt.Errorf("a disk of %d bytes: want at most %d", uint64(h.size), int64(maxSize))
	case h.base < 0 || h.base > h.size:
		return 40, fmt.Errorf("a base of %d bytes below a disk of %d", uint64(h.base), h.size)
	}
	return 0, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode is the header as it is in the file.
func (h header) encode() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	for _, n := range []int64{version, h.block, h.size, h.base} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, h.identity[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(crc32.Checksum(b, castagnoli)))
}

// parseHeader reads what encode wrote.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return h, fmt.Errorf("offset 0: not an overlay")
	}
	if v := binary.LittleEndian.Uint64(b[16:]); v != version {
		return h, fmt.Errorf("offset 16: an overlay of version %d, not %d", v, version)
	}
	if got, want := uint64(crc32.Checksum(b[:summed], castagnoli)), binary.LittleEndian.Uint64(b[summed:]); got != want {
		return h, fmt.Errorf("offset %d: damaged header (checksum %#x, not %#x)", summed, got, want)
	}
	for i, n := range []*int64{&h.block, &h.size, &h.base} {
		*n = int64(binary.LittleEndian.Uint64(b[24+8*i:])) // above 2^63: negative, which check refuses
	}
	copy(h.identity[:], b[48:])
	if at, err := h.check(); err != nil {
		return h, fmt.Errorf("offset %d: %w", at, err)
	}
	return h, nil
}

// fits returns why a file with this header is not one for the disk wanted, where
// a size of 0 was not asked for.
func (h header) fits(want header, size int64) error {
	switch {
	case h.identity != want.identity:
		return fmt.Errorf("belongs to another image (%x, not %x)", h.identity, want.identity)
	case h.base != want.base:
		return fmt.Errorf("belongs to a base of %d bytes, not %d", h.base, want.base)
	case size != 0 && h.size != size:
		return fmt.Errorf("has a disk of %d bytes, not %d: an overlay keeps the size that it was made with", h.size, size)
	}
	return nil
}

// blocks is how many blocks the disk has; the last one may be cut.
func (h header) blocks() int64 { return (h.size + h.block - 1) / h.block }

// pages is how many pages a map has.
func (h header) pages() int64 { return (h.blocks() + pageBlocks - 1) / pageBlocks }

func (h header) mapSize() int64    { return h.pages() * pageSize }
func (h header) volatileAt() int64 { return durableAt + h.mapSize() }

// dataAt is where block 0 lies in the file.
func (h header) dataAt() int64 {
	return (h.volatileAt() + h.mapSize() + h.block - 1) / h.block * h.block
}

// length is that of the file.
func (h header) length() int64 { return h.dataAt() + h.blocks()*h.block }
