package tree

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"caravel/catar"
	"caravel/feature"
)

// The file's header; docs/formats.md, section 14.
const (
	magic       = "caravel sidecar\n"
	version     = 1
	sidecarHead = 104

	atVersion = 16
	atIndex   = 24
	atArchive = 56
	atBody    = 64
	atDigest  = 72
)

// The limits of a sidecar. As entries a bare stream takes less than twice the
// memory that its bytes do; so this bounds what a file may cost that repeats
// itself without end: 30 MB if it is tiny, about ten times what an honest one of
// its length does otherwise. A million files that differ in a number in their
// names, and in nothing else, compress by 40. An image whose metadata compress
// better than this, since very many directories are equal, gets no sidecar.
const (
	maxBody    = 256 << 20 // bytes compressed: of some 28 million entries
	maxArchive = math.MaxInt64 / 2
	freeBare   = 16 << 20 // bytes of the bare stream, however few they are compressed to
	bareFactor = 128      // and for each byte of those

	window = 1 << 20 // of the compression
)

func maxBare(body int) int64 { return freeBare + bareFactor*int64(body) }

// ErrStale says that a sidecar belongs to another index, an earlier version of
// it perhaps.
var ErrStale = errors.New("of another index")

// A Sidecar is a sidecar file (docs/formats.md, section 14) that was read and is
// sound in itself. What it says of an image is a hint, until the archive itself
// has been asked. Any number of Trees may use it.
type Sidecar struct {
	nodes *nodes
	size  int64 // of the archive
	flags feature.Flags
}

// ReadSidecar reads a sidecar of the index with a digest (the SHA-512/256 of its
// file) for an archive of size bytes. An error says why it is not to be used:
// it is another index's ([ErrStale]), cut, damaged or hostile; those of r are
// passed on.
func ReadSidecar(r io.Reader, index [32]byte, size int64) (*Sidecar, error) {
	body, err := readBody(r, index, size)
	if err != nil {
		return nil, err
	}
	b := &builder{nodes: &nodes{most: catar.MaxTarget}}
	if err := unpack(body, size, b.take, b.closed); err != nil {
		return nil, err
	}
	return &Sidecar{nodes: b.nodes, size: size, flags: b.flags}, nil
}

// Size is the length of the archive in bytes.
func (s *Sidecar) Size() int64 { return s.size }

// Len is the number of its entries.
func (s *Sidecar) Len() int { return s.nodes.entries.len() - 1 }

// refused says why a sidecar is not used.
func refused(format string, args ...any) error {
	return fmt.Errorf("tree: sidecar: "+format, args...)
}

// readBody returns what is behind the header, as it should be.
func readBody(r io.Reader, index [32]byte, size int64) ([]byte, error) {
	head := make([]byte, sidecarHead)
	if n, err := io.ReadFull(r, head); err != nil {
		return nil, cutShort(n, err)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	n := u64(atBody)
	switch {
	case string(head[:len(magic)]) != magic:
		return nil, refused("offset 0: not a sidecar (want a .caidx.tree file)")
	case u64(atVersion) != version:
		return nil, refused("offset %d: version %d, not %d", atVersion, u64(atVersion), version)
	case [32]byte(head[atIndex:]) != index:
		return nil, refused("offset %d: %w: %x, not %x", atIndex, ErrStale, head[atIndex:atArchive], index)
	case size <= 0 || size > maxArchive || u64(atArchive) != uint64(size):
		return nil, refused("offset %d: of an archive of %d bytes, not %d", atArchive, u64(atArchive), size)
	case n > maxBody:
		return nil, refused("offset %d: %d bytes, more than %d", atBody, n, maxBody)
	}
	var body bytes.Buffer // which grows with what comes, not with what is claimed
	got, err := body.ReadFrom(io.LimitReader(r, int64(n)+1))
	switch {
	case err != nil:
		return nil, err
	case uint64(got) < n:
		return nil, cutShort(sidecarHead+int(got), io.EOF)
	case uint64(got) > n:
		return nil, refused("offset %d: bytes behind its end", sidecarHead+n)
	}
	if sum := sha512.Sum512_256(body.Bytes()); sum != [32]byte(head[atDigest:]) {
		return nil, refused("damaged: its digest is %x, not %x", sum, head[atDigest:])
	}
	return body.Bytes(), nil
}

func cutShort(at int, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refused("offset %d: truncated", at)
	}
	return err
}

// unpack reads the bare stream of an archive of size bytes out of a body.
func unpack(body []byte, size int64, take func(*catar.Node, feature.Flags) error, closed func(goodbye, end int64) error) error {
	z, err := zstd.NewReader(bytes.NewReader(body),
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return refused("%w", err)
	}
	defer z.Close()
	bare := &bounded{r: z, left: maxBare(len(body))}
	d := catar.NewDecoder(bare, catar.DecoderOptions{Bare: size, Closed: closed})
	for {
		n, err := d.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = take(n, d.Flags())
		}
		switch {
		case bare.err != nil:
			return refused("damaged: %w", bare.err)
		case err != nil:
			return fmt.Errorf("sidecar: %w", err)
		}
	}
}

// A bounded reader fails where there is more than there may be.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

var errBloated = errors.New("it unpacks to too much")

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, errBloated
	}
	if err != io.EOF {
		b.err = err
	}
	return n, err
}

// A builder makes nodes of a bare stream.
type builder struct {
	*nodes
	flags feature.Flags
	open  []opened
	wait  []ID // children of the directories that are open
}

// An opened directory has not ended yet.
type opened struct {
	id   ID
	from int // its first child in wait
}

// take adds a node.
func (b *builder) take(n *catar.Node, f feature.Flags) error {
	b.flags = f
	end := n.Body
	switch {
	case n.IsRegular():
		end += n.Size
	case n.IsDir():
		end += minTable // until it is known
	}
	parent := Root
	if len(b.open) > 0 {
		parent = b.open[len(b.open)-1].id
	}
	e, err := newFound(n, catar.Span{Start: n.Start, End: end}, parent, n.Depth)
	if err != nil {
		return err
	}
	id, err := b.add(e)
	if err != nil {
		return err
	}
	if id != Root {
		b.wait = append(b.wait, id)
	}
	if n.IsDir() {
		b.open = append(b.open, opened{id, len(b.wait)})
	}
	return nil
}

// closed completes the directory that was opened last.
func (b *builder) closed(goodbye, end int64) error {
	o := b.open[len(b.open)-1]
	b.open = b.open[:len(b.open)-1]
	e := b.entries.at(uint32(o.id))
	if err := fewRows(goodbye, end); err != nil {
		return err
	}
	e.end = end
	d := b.dirs.at(e.extra)
	d.goodbye = goodbye
	d.all.Store(b.children(b.wait[o.from:]))
	b.wait = b.wait[:o.from]
	return nil
}

// fewRows refuses a table that is longer than any may be.
func fewRows(goodbye, end int64) error {
	if (end-goodbye-minTable)/tableRow > maxRows {
		return tooMany(goodbye, "a directory")
	}
	return nil
}

// children are those with the numbers ids, in the archive's order.
func (b *builder) children(ids []ID) *children {
	n := len(ids)
	if n == 0 {
		return noChildren
	}
	all := &children{n: n, first: ids[0]}
	if int(ids[n-1]-ids[0]) != n-1 {
		all.ids = append(make([]ID, 0, n), ids...)
	}
	name := func(i int) string {
		e := b.entries.at(uint32(ids[i]))
		return b.names.text(e.name, 0, int(e.nameLen))
	}
	for i := 1; i < n && b.flags == feature.Desync; i++ {
		if name(i) < name(i-1) { // the decoder lets only these be so
			all.byName = sortNames(n, name)
			break
		}
	}
	return all
}
