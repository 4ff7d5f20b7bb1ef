package catar

import (
	"io"
	"math"

	"caravel/feature"
)

// A bare archive is one without the bytes of its payloads and of its tables
// (docs/formats.md, section 14): of a PAYLOAD and a GOODBYE only the header is
// left, by which the offsets of all that follows are known. A [Decoder] reads
// one with [DecoderOptions].Bare.

// A Stripper makes an archive that is written to it a bare one.
type Stripper struct {
	to     io.Writer
	off    int64  // in the archive
	keep   uint64 // bytes of the record that go on
	drop   uint64 // bytes of it that do not
	header [headerSize]byte
	have   int // bytes of the header
	err    error
}

// NewStripper writes to w what is kept, in small pieces.
func NewStripper(w io.Writer) *Stripper { return &Stripper{to: w} }

// Offset is how many bytes were written so far.
func (s *Stripper) Offset() int64 { return s.off }

// Write takes the archive's next bytes, however they are cut. It knows records,
// not what they mean: what it is given may be no archive all the same.
func (s *Stripper) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	done := 0
	for done < len(p) && s.err == nil {
		n := s.step(p[done:])
		done += n
		s.off += int64(n)
	}
	return done, s.err
}

// step takes what belongs together of p, and returns how much that was.
func (s *Stripper) step(p []byte) int {
	switch {
	case s.drop > 0:
		n := min(s.drop, uint64(len(p)))
		s.drop -= n
		return int(n)
	case s.keep > 0:
		n := min(s.keep, uint64(len(p)))
		s.keep -= n
		s.pass(p[:n])
		return int(n)
	case s.have == 0 && len(p) >= headerSize:
		s.begin(p[:headerSize], s.off)
		return headerSize
	}
	n := copy(s.header[s.have:], p)
	if s.have += n; s.have == headerSize {
		s.have = 0
		s.begin(s.header[:], s.off+int64(n)-headerSize)
	}
	return n
}

// begin takes the header of the record at off.
func (s *Stripper) begin(header []byte, off int64) {
	k, size, err := kindOf(header, off)
	switch {
	case err != nil:
		s.err = err
		return
	case size > uint64(math.MaxInt64-off):
		s.err = refuse(off, "%s of %d bytes, which ends beyond 2^63-1", k.name, size)
		return
	case k.id == typePayload || k.id == typeGoodbye:
		s.drop = size - headerSize
	default:
		s.keep = size - headerSize
	}
	s.pass(header)
}

func (s *Stripper) pass(p []byte) { _, s.err = s.to.Write(p) }

// More are the records of n between its ENTRY and its content, out of b, which
// has its head from the first record on.
func (n *Node) More(b []byte) []byte {
	from, to := n.Head+entrySize-n.Start, n.Body-n.Start
	switch {
	case n.IsRegular():
		to -= headerSize
	case n.IsSymlink():
		to -= headerSize + int64(len(n.Target)) + 1
	case n.IsDevice():
		to -= deviceSize
	}
	return b[from:to]
}

// AppendBare appends the records of a node up to its content, as they are in an
// archive with the flags f: name is "" for the root, and more are those that e
// does not say (see [Node.More]).
func AppendBare(b []byte, name string, e *Entry, more []byte, f feature.Flags) []byte {
	if name != "" {
		b = appendText(b, typeFilename, name)
	}
	return appendContent(append(appendEntry(b, e, f), more...), e)
}

// AppendBareTable appends what is kept of the table of n children.
func AppendBareTable(b []byte, n int) []byte {
	return appendU64(b, uint64(tableSize(n)), typeGoodbye)
}

// TableSize is the length of the table of n children in bytes.
func TableSize(n int) int64 { return tableSize(n) }
