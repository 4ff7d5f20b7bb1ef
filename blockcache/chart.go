package blockcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"
)

// The map of a File lies beside it:
//
//	   0  header, see below
//	4096  a bit for each chunk that is in the file, the lowest bit of the
//	      first byte being that of the first chunk; filled up to 4096 bytes
//	      and what of the first chunk lies before the file's first byte,
//	      and what of the last chunk lies behind its last byte
//
// The header holds, in numbers of 64 bits, the lowest byte first: magic, version,
// digest of the index (32 bytes), offset, size, number of chunks, bytes of the
// first chunk before the file, bytes of the last chunk behind it, checksum of
// all this. Only the header is checked: a bit is a hint.
const (
	chartMagic   = "caravmap"
	chartVersion = 1
	chartBlock   = 4096
	headerSize   = 96
	headerSummed = headerSize - 8
)

// A header says which bytes of which image a File holds.
type header struct {
	index            [32]byte
	off, size        int64
	rows, head, tail int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode is the header as it is on disk.
func (h header) encode() []byte {
	b := append(make([]byte, 0, headerSize), chartMagic...)
	b = binary.LittleEndian.AppendUint64(b, chartVersion)
	b = append(b, h.index[:]...)
	for _, n := range []int64{h.off, h.size, h.rows, h.head, h.tail} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return binary.LittleEndian.AppendUint64(b, uint64(crc32.Checksum(b, castagnoli)))
}

// errNoChart is what is said of a map that is none.
var errNoChart = errors.New("not a map of a materialised image")

// parseHeader reads what encode wrote.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:8]) != chartMagic {
		return h, errNoChart
	}
	if v := binary.LittleEndian.Uint64(b[8:]); v != chartVersion {
		return h, fmt.Errorf("a map of version %d, not %d", v, chartVersion)
	}
	if got, want := uint64(crc32.Checksum(b[:headerSummed], castagnoli)), binary.LittleEndian.Uint64(b[headerSummed:]); got != want {
		return h, fmt.Errorf("a damaged map (checksum %#x, not %#x)", got, want)
	}
	copy(h.index[:], b[16:])
	for i, n := range []*int64{&h.off, &h.size, &h.rows, &h.head, &h.tail} {
		v := binary.LittleEndian.Uint64(b[48+8*i:])
		if v > math.MaxInt64 {
			return h, fmt.Errorf("a damaged map (%#x at offset %d)", v, 48+8*i)
		}
		*n = int64(v)
	}
	return h, nil
}

// A sink is what is written to.
type sink interface {
	io.WriterAt
	Sync() error // what was written survives a power cut
}

// A chart is the map of a File.
type chart struct {
	header
	file *os.File
	out  sink
	data *os.File // locked by who changes bits: they share bytes
}

// headAt and tailAt are where the margins lie, and length where the map ends.
func (c *chart) headAt() int64 {
	return chartBlock + ((c.rows+7)/8+chartBlock-1)/chartBlock*chartBlock
}
func (c *chart) tailAt() int64 { return c.headAt() + c.head }
func (c *chart) length() int64 { return c.tailAt() + c.tail }

// ours returns nil if the file is the map that the header describes.
func (c *chart) ours() error {
	b := make([]byte, headerSize)
	n, err := c.file.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	h, err := parseHeader(b[:n])
	if err != nil || h == c.header {
		return err
	}
	if h.index != c.index {
		return fmt.Errorf("a map of another index (%x, not %x)", h.index, c.index)
	}
	return fmt.Errorf("a map of %d bytes at %d, not of %d at %d", h.size, h.off, c.size, c.off)
}

// begin makes the file an empty map, and brings it to the disk. The bits get their
// blocks now: on a full disk there is room for what is known of the chunks.
func (c *chart) begin() error {
	if err := c.file.Truncate(0); err != nil {
		return err
	}
	if err := c.file.Truncate(c.length()); err != nil {
		return err
	}
	b := make([]byte, c.headAt())
	copy(b, c.encode())
	if _, err := c.out.WriteAt(b, 0); err != nil {
		return err
	}
	return c.out.Sync()
}

// load reads the bits. What the file does not have is not set.
func (c *chart) load(b bits) error {
	raw := make([]byte, (c.rows+7)/8)
	n, err := c.file.ReadAt(raw, chartBlock)
	if err != nil && err != io.EOF {
		return err
	}
	clear(raw[n:])
	b.load(raw, int(c.rows))
	return nil
}

// change sets bits, and clears others, and leaves alone what other processes
// have set meanwhile.
func (c *chart) change(set, unset []int) error {
	if err := lock(c.data, exclusive); err != nil {
		return err
	}
	defer unlock(c.data)
	slices.Sort(set)
	slices.Sort(unset)
	for len(set)+len(unset) > 0 {
		const rows = 8 * chartBlock
		block := math.MaxInt
		for _, list := range [][]int{set, unset} {
			if len(list) > 0 {
				block = min(block, list[0]/rows)
			}
		}
		raw := make([]byte, min(chartBlock, (c.rows+7)/8-int64(block)*chartBlock))
		at := chartBlock * int64(1+block)
		n, err := c.file.ReadAt(raw, at)
		if err != nil && err != io.EOF {
			return err
		}
		clear(raw[n:])
		before := bytes.Clone(raw)
		for ; len(unset) > 0 && unset[0]/rows == block; unset = unset[1:] {
			raw[unset[0]%rows/8] &^= 1 << (unset[0] % 8)
		}
		for ; len(set) > 0 && set[0]/rows == block; set = set[1:] {
			raw[set[0]%rows/8] |= 1 << (set[0] % 8)
		}
		if bytes.Equal(raw, before) {
			continue
		}
		if _, err := c.out.WriteAt(raw, at); err != nil {
			return err
		}
	}
	return nil
}
