package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// The container is read here and not by the library, which would allocate the
// dictionary that the header asks for, up to 4 GiB, and says nothing of the
// plain size before it has decoded all. The numbers are those of the .xz file
// format 1.2.1.

func unpackXZ(stored []byte, size int) (*buffer, error) {
	s, err := scanXZ(stored, most(size))
	if err != nil {
		return nil, err
	}
	total := 0
	for _, b := range s.blocks {
		total += b.size
	}
	buf := newBuffer(total)
	for _, b := range s.blocks {
		n := len(buf.b)
		buf.b = buf.b[:n+b.size]
		if err := b.unpack(buf.b[n:], s.check); err != nil {
			buf.free()
			return nil, err
		}
	}
	return buf, nil
}

// xzStream is what the headers of a stream say.
type xzStream struct {
	check  byte // the algorithm behind each block's sum
	blocks []xzBlock
}

type xzBlock struct {
	packed []byte // LZMA2
	sum    []byte // of the plain bytes
	dict   int64  // bytes that the packer could look back
	size   int    // of the plain bytes
	whole  int    // of the block without its padding
}

// xzSums are the lengths of the sums of a block's plain bytes, by algorithm.
var xzSums = map[byte]int{0: 0, 1: 4, 4: 8, 10: 32}

// scanXZ takes one stream apart that fills all of b and holds limit plain bytes
// at most.
func scanXZ(b []byte, limit int) (s xzStream, err error) {
	const headerSize, footerSize = 12, 12
	if len(b) < headerSize+footerSize {
		return s, errTruncated
	}
	flags, ok := b[6:8], crc32.ChecksumIEEE(b[6:8]) == binary.LittleEndian.Uint32(b[8:])
	sumSize, known := xzSums[flags[1]]
	if !ok || flags[0] != 0 || !known {
		return s, errors.New("bad stream header")
	}
	s.check = flags[1]
	for b = b[headerSize:]; len(b) > 0 && b[0] != 0; {
		var blk xzBlock
		if blk, b, err = nextXZ(b, sumSize, limit); err != nil {
			return s, err
		}
		limit -= blk.size
		s.blocks = append(s.blocks, blk)
	}
	index, err := indexXZ(b, s.blocks)
	if err != nil {
		return s, err
	}
	b = b[index:]
	if len(b) < footerSize {
		return s, errTruncated
	}
	if crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b) || !bytes.Equal(b[8:10], flags) ||
		int64(binary.LittleEndian.Uint32(b[4:])) != int64(index)/4-1 || string(b[10:12]) != "YZ" {
		return s, errors.New("bad stream footer")
	}
	if len(b) > footerSize {
		return s, errTrailing
	}
	return s, nil
}

// nextXZ takes the first block from b.
func nextXZ(b []byte, sumSize, limit int) (blk xzBlock, rest []byte, err error) {
	headerSize := (int(b[0]) + 1) * 4
	if len(b) < headerSize {
		return blk, nil, errTruncated
	}
	packedSize, size, dict, err := headerXZ(b[:headerSize])
	if err != nil {
		return blk, nil, err
	}
	packed, plain, err := scanLZMA2(b[headerSize:], limit)
	if err != nil {
		return blk, nil, err
	}
	if packedSize >= 0 && packedSize != int64(packed) || size >= 0 && size != int64(plain) {
		return blk, nil, errors.New("block is not as long as its header says")
	}
	pad := -packed & 3
	end := headerSize + packed + pad + sumSize
	if len(b) < end {
		return blk, nil, errTruncated
	}
	blk = xzBlock{
		packed: b[headerSize : headerSize+packed],
		sum:    b[end-sumSize : end],
		dict:   dict,
		size:   plain,
		whole:  end - pad,
	}
	if !zeros(b[headerSize+packed : end-sumSize]) {
		return blk, nil, errors.New("bad padding")
	}
	return blk, b[end:], nil
}

// headerXZ reads a block's header; a size that it does not say is -1.
func headerXZ(b []byte) (packed, plain, dict int64, err error) {
	const lzma2 = 0x21
	bad := errors.New("bad block header")
	body, flags := b[2:len(b)-4], b[1]
	if crc32.ChecksumIEEE(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) || flags&0x3c != 0 {
		return 0, 0, 0, bad
	}
	if flags&3 != 0 {
		return 0, 0, 0, errors.New("filters other than LZMA2")
	}
	packed, plain = -1, -1
	if flags&0x40 != 0 {
		packed, body = numberXZ(body)
	}
	if flags&0x80 != 0 && body != nil {
		plain, body = numberXZ(body)
	}
	if len(body) < 3 || !zeros(body[3:]) {
		return 0, 0, 0, bad
	}
	if body[0] != lzma2 || body[1] != 1 {
		return 0, 0, 0, errors.New("filters other than LZMA2")
	}
	if dict, err = lzma.DecodeDictCap(body[2]); err != nil {
		return 0, 0, 0, bad
	}
	return packed, plain, dict, nil
}

// numberXZ takes a number of variable length from b; rest is nil if there is
// none.
func numberXZ(b []byte) (n int64, rest []byte) {
	const longest = 9
	u, used := binary.Uvarint(b[:min(len(b), longest)])
	if used <= 0 || used > 1 && b[used-1] == 0 {
		return 0, nil
	}
	return int64(u), b[used:]
}

// scanLZMA2 goes through the headers of the pieces of LZMA2 data at the start
// of b: how many bytes it has there, and how many when unpacked.
func scanLZMA2(b []byte, limit int) (packed, plain int, err error) {
	for {
		rest := b[packed:]
		if len(rest) > 0 && rest[0] == 0 {
			return packed + 1, plain, nil
		}
		if len(rest) < 6 {
			return 0, 0, errTruncated
		}
		control, head, n := rest[0], 3, int(binary.BigEndian.Uint16(rest[1:]))+1
		plain += n
		if control >= 0x80 {
			head, plain = 5, plain+int(control&0x1f)<<16
			n = int(binary.BigEndian.Uint16(rest[3:])) + 1
			if control >= 0xc0 {
				head = 6 // new properties
			}
		} else if control > 2 {
			return 0, 0, fmt.Errorf("unknown LZMA2 control byte %#x", control)
		}
		if plain > limit {
			return 0, 0, errTooLong
		}
		if len(rest) < head+n {
			return 0, 0, errTruncated
		}
		packed += head + n
	}
}

// indexXZ compares the index at the start of b with the blocks and returns its
// length.
func indexXZ(b []byte, blocks []xzBlock) (n int, err error) {
	bad := errors.New("bad index")
	if len(b) < 1 {
		return 0, errTruncated
	}
	count, rest := numberXZ(b[1:])
	if rest == nil || count != int64(len(blocks)) {
		return 0, bad
	}
	for _, blk := range blocks {
		var whole, size int64
		if whole, rest = numberXZ(rest); rest == nil {
			return 0, bad
		}
		if size, rest = numberXZ(rest); rest == nil || whole != int64(blk.whole) || size != int64(blk.size) {
			return 0, bad
		}
	}
	n = len(b) - len(rest)
	pad := -n & 3
	if len(rest) < pad+4 {
		return 0, errTruncated
	}
	if !zeros(rest[:pad]) || crc32.ChecksumIEEE(b[:n+pad]) != binary.LittleEndian.Uint32(rest[pad:]) {
		return 0, bad
	}
	return n + pad + 4, nil
}

func zeros(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// unpack fills dst, which is as long as the block's plain bytes.
func (b xzBlock) unpack(dst []byte, check byte) error {
	// Nothing lies farther back than the first byte.
	dict := int(max(lzma.MinDictCap, min(b.dict, int64(len(dst)))))
	r, err := lzma.Reader2Config{DictCap: dict}.NewReader2(bytes.NewReader(b.packed))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, dst); err != nil {
		return noEOF(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return errors.New("bad LZMA2 data")
	}
	if !bytes.Equal(sumXZ(dst, check), b.sum) {
		return errors.New("checksum mismatch")
	}
	return nil
}

func sumXZ(b []byte, check byte) []byte {
	switch check {
	case 1:
		return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))
	case 4:
		return binary.LittleEndian.AppendUint64(nil, crc64.Checksum(b, crc64.MakeTable(crc64.ECMA)))
	case 10:
		sum := sha256.Sum256(b)
		return sum[:]
	}
	return nil
}

// xzDicts are the dictionaries of xz's own levels, in bytes.
var xzDicts = [...]int{1: 1 << 20, 2 << 20, 4 << 20, 4 << 20, 8 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20}

func packXZ(plain []byte, level int) (*buffer, error) {
	if level == 0 {
		level = 6
	}
	buf := newBuffer(len(plain) + len(plain)/256 + 256)
	w, err := xz.WriterConfig{
		DictCap:  max(lzma.MinDictCap, min(xzDicts[level], len(plain))),
		CheckSum: xz.CRC64,
	}.NewWriter(buf)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		buf.free()
		return nil, err
	}
	return buf, nil
}
