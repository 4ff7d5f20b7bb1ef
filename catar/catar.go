// Package catar reads and writes casync's archives of trees (.catar; cut into
// chunks, what a .caidx lists).
//
// The format is described in docs/formats.md, section 4. An archive is a root
// directory: each [Node] has a few records of metadata, then its content: the
// payload of a file, the children of a directory and behind them its table
// (GOODBYE), which finds a child by the hash of its name. What is kept of an
// [Entry] is said by the archive's feature flags.
//
//	e, err := catar.NewEncoder(w, flags)
//	err = e.Begin("", &root)
//	err = e.Begin("hello", &file) // file.Size is 6
//	_, err = io.WriteString(e, "world\n")
//	err = e.End() // of the root
//
//	for d := catar.NewDecoder(r, catar.DecoderOptions{}); ; {
//		n, err := d.Next() // n.Name, n.Depth …; d has the payload
//		…
//	}
//
// An [Encoder] and a [Decoder] take a stream from its start to its end. Who has
// the archive at hand, or can fetch any part of it, goes from the end of a
// directory ([ParseTail]) to its table ([ParseTable]), and by that to a child
// ([Table.Find], [ParseHead]). Both ways read a node's metadata with the same
// code and are equally strict. An archive without its payloads and tables
// ([Stripper]) still says where everything is. The rooms below have the rest: catar/walk makes
// an archive of a directory, catar/restore the reverse, catar/tree keeps the
// nodes of an image.
//
// # Strictness
//
// What is accepted is what casync writes, so it is written back byte for byte.
// Every table is computed again and compared, names have to be sorted, and an
// archive has to end where its root does; errors name the offset. casync itself
// reads more, and waits for ever where an archive breaks off. But in three
// things it reads less than it writes:
//
//   - Times in microseconds (usec-time) are multiples of 1,000 ns. casync writes
//     them so, but asks for 1,000,000 when it reads.
//   - Owners by name alone: casync leaves out the name of root, and then misses
//     it. Here nobody is missed, and a number in place of a name is taken.
//   - The name of an owner that casync would not read again (one with a dot, say)
//     is not written: a number does in its place, as for an owner without a name.
//
// A node may have [MaxHead] bytes of metadata. That is more than Linux gives it,
// save on file systems where a file has hundreds of attributes of 64 KiB each.
//
// Archives of desync's, which have just the flags [feature.Desync], may be
// unsorted, have a name without a node (a FIFO), attributes of any namespace and
// of links, equal hashes in reverse, and bytes behind the root. One NUL at the
// end of an attribute's value is taken away: desync adds it. So casync's archive
// with just these flags loses one if the value ends in a NUL itself.
//
// # Speed
//
// The Go distribution's tree (16,703 entries, 235 MB), in memory, on one core of
// a small machine: 15 ms to decode it if payloads are passed over by seeking,
// 35 ms if not, 40 ms with all payloads read, 47 ms if what comes of it is
// encoded again. For one entry (BenchmarkDecoder, BenchmarkEncoder,
// BenchmarkParseHead) that is 300 ns and one allocation, its name, for reading;
// 200 ns and none for writing; 220 ns and two for reading it at random. The table of a
// million children takes 0.3 s to parse and 20 MB to keep; the stream needs
// 24 bytes for each child of the directories that are open.
package catar

import (
	"context"
	"math"
)

// The limits of the format; docs/formats.md, section 4.
const (
	MaxName   = 255   // bytes of a name
	MaxTarget = 4095  // bytes of a symbolic link's target
	MaxValue  = 65536 // bytes of an extended attribute's value
	MaxLabel  = 4095  // bytes of an SELinux label
	MaxDepth  = 64    // nodes on a path, the root and the leaf counted
)

// Limits that the format does not have. Linux lists no more names of attributes
// than that (XATTR_LIST_MAX), so casync has none of the others either.
const (
	MaxHead       = 16 << 20 // bytes of a node's metadata
	MaxXAttrNames = 65536    // bytes of the names of a node's attributes, with a NUL each

	maxPayload = math.MaxInt64 - headerSize
)

// A Node is an entry in its place in an archive. Offsets count from the
// archive's first byte.
type Node struct {
	Entry
	Name  string // "": the root
	Depth int    // number of directories above it; 0: the root
	Start int64  // of its first record: FILENAME, for the root ENTRY
	Head  int64  // of its ENTRY record
	Body  int64  // behind its metadata: a file's first byte, a directory's first child or table, else the node's end
}

// A Source gives the bytes of an archive at offsets, by io.ReaderAt's rules. It
// may be called from many goroutines.
type Source interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}
