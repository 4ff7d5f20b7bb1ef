package index

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// What an index file consists of: little-endian numbers of 8 bytes, and IDs.
// docs/formats.md, section 3.
const (
	headerSize = 64 // including the head of the table
	rowSize    = 40
	tailSize   = 40

	indexSize = 48 // the header's own size, which is also where the table begins
	indexType = 0x96824d9c7b129ff9
	tableSize = math.MaxUint64 // stands for "not known yet": the table is streamed
	tableType = 0xe75b9e112f17417d
	tailMark  = 0x4b4f050e5549ecd1
)

// blockSize is how much is read and written at once, in whole rows.
const blockSize = 6553 * rowSize

// headBytes are how every index begins.
const headBytes = 16

// Begins reports whether a file may be an index that begins with head, of which 16
// bytes are enough.
func Begins(head []byte) bool {
	return len(head) >= headBytes && u64(head, 0) == indexSize && u64(head, 1) == indexType
}

// u64 returns number i of b.
func u64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }

// tableBytes is the length of a table of n rows, with its head and tail.
func tableBytes(n int) uint64 { return 16 + rowSize*uint64(n) + tailSize }

// check refuses a header that no index may have.
func (x *Index) check() error {
	if err := x.Flags.Check(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if err := x.Params.Valid(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// WriteTo writes the index file.
func (x *Index) WriteTo(w io.Writer) (int64, error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	return x.write(w)
}

// Sum is the SHA-512/256 of the index file, by which side files (metadata,
// profiles, materialised images) name the index that they belong to, whatever
// the digest of its chunks. It is computed at the first call: 0.9 s for the
// index of a 1 TiB image.
func (x *Index) Sum() [32]byte {
	x.summed.Do(func() {
		h := sha512.New512_256()
		_, _ = x.write(h) // a hash takes everything
		h.Sum(x.sum[:0])
	})
	return x.sum
}

func (x *Index) write(w io.Writer) (int64, error) {
	var n int64
	b := make([]byte, 0, min(blockSize, headerSize+rowSize*len(x.rows)+tailSize))
	flush := func() error {
		k, err := w.Write(b)
		if err == nil && k < len(b) {
			err = io.ErrShortWrite
		}
		n += int64(k)
		b = b[:0]
		return err
	}

	b = appendNumbers(b, indexSize, indexType, uint64(x.Flags),
		uint64(x.Params.Min), uint64(x.Params.Avg), uint64(x.Params.Max), tableSize, tableType)
	for i := range x.rows {
		if cap(b)-len(b) < rowSize {
			if err := flush(); err != nil {
				return n, err
			}
		}
		b = appendNumbers(b, uint64(x.rows[i].end))
		b = append(b, x.rows[i].id[:]...)
	}
	if cap(b)-len(b) < tailSize {
		if err := flush(); err != nil {
			return n, err
		}
	}
	b = appendNumbers(b, 0, 0, indexSize, tableBytes(len(x.rows)), tailMark)
	err := flush()
	return n, err
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, v := range numbers {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

var _ io.WriterTo = (*Index)(nil)
