package tarball

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// An xzReader reads the streams of an .xz file, one after the other, by the description
// of the format (tukaani.org/xz/xz-file-format.txt, version 1.2.1). Of the library only
// the decoder of LZMA2 is used: its reader of files allocates the dictionary that a
// block asks for, up to 4 GiB, and it cannot be known before where it sees a block.
type xzReader struct {
	r     *bufio.Reader
	flags [2]byte   // of the stream
	sum   hash.Hash // that blocks end with; nil: they have none

	block   io.Reader // nil: none is begun
	packed  counted   // what the block is read from
	header  xzBlock
	n       int64     // plain bytes of the block so far
	records hash.Hash // of what the index is to say
	blocks  uint64    // of the stream
}

// An xzBlock is what a block's header says; sizes of -1: nothing.
type xzBlock struct {
	length        int64 // its own
	packed, plain int64
	dictionary    int64
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

const (
	xzMagic    = "\xfd7zXZ\x00"
	xzEnd      = "YZ"
	xzAlign    = 4
	dictionary = 64 << 20 // is the most that is allocated
)

var errXZ = errors.New("xz: not in the format")

func unpackXZ(r *bufio.Reader) (io.ReadCloser, error) {
	x := &xzReader{r: r}
	if err := x.begin(); err != nil {
		return nil, midway(err)
	}
	return io.NopCloser(x), nil
}

// midway is an error where the end of the file is none.
func midway(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read is io.Reader's.
func (x *xzReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := x.block.Read(p)
		x.n += int64(n)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		if n > 0 || err != io.EOF {
			if err == io.EOF {
				err = nil // it comes again
			}
			return n, err
		}
		if err := x.endBlock(); err != nil {
			return 0, midway(err)
		}
	}
	return 0, nil
}

// begin reads the header of a stream.
func (x *xzReader) begin() error {
	var head [12]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return err
	}
	if string(head[:6]) != xzMagic || binary.LittleEndian.Uint32(head[8:]) != crc32.ChecksumIEEE(head[6:8]) {
		return errXZ
	}
	x.flags = [2]byte(head[6:])
	switch x.flags {
	case [2]byte{0, 0}:
		x.sum = nil
	case [2]byte{0, 1}:
		x.sum = crc32.NewIEEE()
	case [2]byte{0, 4}:
		x.sum = crc64.New(crc64.MakeTable(crc64.ECMA))
	case [2]byte{0, 10}:
		x.sum = sha256.New()
	default:
		return fmt.Errorf("xz: checks of the type %x", x.flags)
	}
	x.records, x.blocks = sha256.New(), 0
	return nil
}

// next begins a block, of the next stream if that was all of this one. io.EOF: that was
// the last.
func (x *xzReader) next() error {
	size, err := x.r.ReadByte()
	if err != nil {
		return midway(err)
	}
	if size == 0 {
		if err := x.index(); err != nil {
			return midway(err)
		}
		return x.nextStream()
	}
	head := make([]byte, (int(size)+1)*4)
	head[0] = size
	if _, err := io.ReadFull(x.r, head[1:]); err != nil {
		return midway(err)
	}
	if x.header, err = parseXZBlock(head); err != nil {
		return err
	}
	if x.header.dictionary > dictionary {
		return fmt.Errorf("xz: a dictionary of %d bytes, above %d", x.header.dictionary, dictionary)
	}
	x.packed, x.n = counted{r: x.r}, 0
	if x.sum != nil {
		x.sum.Reset()
	}
	x.block, err = lzma.Reader2Config{DictCap: int(x.header.dictionary)}.NewReader2(&x.packed)
	return err
}

// nextStream passes over zeros to the header of the next stream.
func (x *xzReader) nextStream() error {
	for {
		head, err := x.r.Peek(xzAlign)
		switch {
		case len(head) == 0:
			return err
		case err != nil:
			return midway(err)
		case !allZero(head):
			return midway(x.begin())
		}
		if _, err := x.r.Discard(xzAlign); err != nil {
			return err
		}
	}
}

// parseXZBlock reads the header of a block.
func parseXZBlock(head []byte) (xzBlock, error) {
	b := xzBlock{length: int64(len(head)), packed: -1, plain: -1}
	sum := len(head) - crc32.Size
	if binary.LittleEndian.Uint32(head[sum:]) != crc32.ChecksumIEEE(head[:sum]) {
		return b, errXZ
	}
	const filters, hasPacked, hasPlain = 0x03, 0x40, 0x80
	flags := head[1]
	if flags&^(hasPacked|hasPlain) != 0 {
		if flags&filters != 0 {
			return b, errors.New("xz: filters before LZMA2, which are for programs")
		}
		return b, errXZ
	}
	r := bytes.NewReader(head[2:sum])
	for _, size := range []struct {
		bit  byte
		into *int64
	}{{hasPacked, &b.packed}, {hasPlain, &b.plain}} {
		if flags&size.bit == 0 {
			continue
		}
		n, err := binary.ReadUvarint(r)
		if err != nil || n > 1<<62 {
			return b, errXZ
		}
		*size.into = int64(n)
	}
	const lzma2, properties, most = 0x21, 1, 40
	rest := head[sum-r.Len() : sum]
	if len(rest) < 3 || rest[0] != lzma2 || rest[1] != properties || rest[2] > most || !allZero(rest[3:]) {
		return b, errXZ
	}
	b.dictionary = int64(2|rest[2]&1) << (rest[2]/2 + 11)
	return b, nil
}

// endBlock reads what stands behind a block and compares it with what was read.
func (x *xzReader) endBlock() error {
	x.block = nil
	b, size := x.header, x.packed.n
	if b.packed >= 0 && b.packed != size || b.plain >= 0 && b.plain != x.n {
		return errors.New("xz: a block of another size than its header says")
	}
	if err := x.padding(size); err != nil {
		return err
	}
	checked := 0
	if x.sum != nil {
		want := x.sum.Sum(nil)
		checked = len(want)
		if checked < sha256.Size { // they are numbers
			slices.Reverse(want)
		}
		got := make([]byte, checked)
		if _, err := io.ReadFull(x.r, got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return errors.New("xz: a block with another checksum")
		}
	}
	record := binary.AppendUvarint(nil, uint64(b.length+size+int64(checked)))
	x.records.Write(binary.AppendUvarint(record, uint64(x.n)))
	x.blocks++
	return nil
}

// padding reads the zeros after n bytes.
func (x *xzReader) padding(n int64) error {
	zeros := make([]byte, -n&(xzAlign-1))
	if _, err := io.ReadFull(x.r, zeros); err != nil {
		return err
	}
	if !allZero(zeros) {
		return errXZ
	}
	return nil
}

// index reads the index, of which the first byte has been read, and the stream's footer.
func (x *xzReader) index() error {
	in := &summed{r: x.r, sum: crc32.NewIEEE(), n: 1}
	in.sum.Write([]byte{0})
	blocks, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	if blocks != x.blocks {
		return fmt.Errorf("xz: %d blocks, of which the index knows %d", x.blocks, blocks)
	}
	records := sha256.New()
	for range 2 * blocks {
		n, err := binary.ReadUvarint(in)
		if err != nil {
			return err
		}
		records.Write(binary.AppendUvarint(nil, n))
	}
	if !bytes.Equal(records.Sum(nil), x.records.Sum(nil)) {
		return errors.New("xz: an index of other blocks")
	}
	for in.n%xzAlign != 0 {
		c, err := in.ReadByte()
		if err == nil && c != 0 {
			err = errXZ
		}
		if err != nil {
			return err
		}
	}
	var foot [16]byte // the index's sum, and the footer: its sum, the size, the flags, the end
	if _, err := io.ReadFull(x.r, foot[:]); err != nil {
		return err
	}
	number := binary.LittleEndian.Uint32
	if number(foot[:]) != in.sum.Sum32() || number(foot[4:]) != crc32.ChecksumIEEE(foot[8:14]) ||
		(int64(number(foot[8:]))+1)*xzAlign != in.n+crc32.Size ||
		[2]byte(foot[12:]) != x.flags || string(foot[14:]) != xzEnd {
		return errXZ
	}
	return nil
}

// summed are the bytes of an index.
type summed struct {
	r   *bufio.Reader
	sum hash.Hash32
	n   int64
}

func (s *summed) ReadByte() (byte, error) {
	c, err := s.r.ReadByte()
	if err == nil {
		s.sum.Write([]byte{c})
		s.n++
	}
	return c, err
}
