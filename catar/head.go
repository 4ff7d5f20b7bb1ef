package catar

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"

	"caravel/feature"
)

// ErrNoNode says that a name has no node behind it. desync writes FIFOs and
// sockets so; they are to be passed over. In archives of any other flags it is
// an error of another kind.
var ErrNoNode = errors.New("catar: a name without a node")

// A ShortError says that more bytes are needed.
type ShortError struct {
	// Need is how many bytes of the node or table to come back with, counted
	// from its start. It at least doubles from one time to the next unless the
	// end is known to be nearer, and does not grow beyond what the format allows.
	Need int
}

func (e *ShortError) Error() string { return fmt.Sprintf("catar: %d bytes are needed", e.Need) }

// ParseHead reads the records of one node up to its content from b, which
// starts at the node's first record, start bytes into the archive (0: the root,
// which has no FILENAME). The node ends at end. f are the archive's flags;
// ignored for the root, which says them itself. A *ShortError asks for more of
// b. Depth is not set. Nothing of b is kept.
//
// The name is whatever the archive says; who was looking for one compares it.
func ParseHead(b []byte, start, end int64, f feature.Flags) (n *Node, flags feature.Flags, err error) {
	n, flags, err = ParseOpenHead(b, start, end, f)
	switch {
	case err != nil:
		return nil, 0, err
	case n.IsRegular() && n.Size != end-n.Body:
		return nil, 0, refuse(n.Body, "payload of %d bytes in a node with %d left", n.Size, end-n.Body)
	case n.IsDir() && end-n.Body < tableSize(0):
		return nil, 0, refuse(n.Body, "%d bytes left for a directory, too few for a table", end-n.Body)
	case !n.IsRegular() && !n.IsDir() && n.Body != end:
		return nil, 0, refuse(n.Body, "%d bytes behind a %s", end-n.Body, n.kind())
	}
	return n, flags, nil
}

// ParseOpenHead is ParseHead of a node of which nobody knows for sure where it
// ends: at most at end.
func ParseOpenHead(b []byte, start, end int64, f feature.Flags) (n *Node, flags feature.Flags, err error) {
	if start < 0 || end < start {
		return nil, 0, fmt.Errorf("catar: a node from %d to %d", start, end)
	}
	n = &Node{Start: start}
	p := parsers.Get().(*parser)
	defer p.done()
	w, h := &p.slice, &p.head
	*w = slice{b: b, start: start, end: end}
	h.root, h.flags = start == 0, f
	if !h.root {
		if n.Name, err = readName(w); err != nil {
			return nil, 0, err
		}
		if f == feature.Desync && w.offset() == end {
			return nil, 0, ErrNoNode
		}
	}
	if err := h.read(w, n); err != nil {
		return nil, 0, err
	}
	return n, h.flags, nil
}

// A parser is what reading one head takes. It is used again, and knows the last
// owners' names then.
type parser struct {
	slice
	head
}

var parsers = sync.Pool{New: func() any { return new(parser) }}

// done lets go of what the parser was given.
func (p *parser) done() {
	p.slice, p.n = slice{}, nil
	parsers.Put(p)
}

// A window shows the bytes in front of a parser: those of a stream, or of a
// node that was read at random.
type window interface {
	offset() int64 // of the next byte in the archive

	// peek returns the next n bytes, or fewer if there are no more.
	peek(n int) ([]byte, error)
	skip(n int)
}

// A slice is a window on a part of a node.
type slice struct {
	b          []byte
	start, end int64 // of the node
	used       int
}

func (s *slice) offset() int64 { return s.start + int64(s.used) }

func (s *slice) peek(n int) ([]byte, error) {
	if left := s.end - s.offset(); int64(n) > left {
		n = int(left)
	}
	if s.used+n > len(s.b) {
		// Twice as much as there is, so that who has many attributes to read
		// does not come back for each of them.
		need := max(int64(s.used+n), min(2*int64(len(s.b)), s.end-s.start, MaxHead))
		return nil, &ShortError{Need: int(need)}
	}
	return s.b[s.used : s.used+n], nil
}

func (s *slice) skip(n int) { s.used += n }

// peekRecord returns the next record whole, its header first.
func peekRecord(w window, k *kind, size uint64) ([]byte, error) {
	b, err := w.peek(int(size)) // within the kind's limits
	if err == nil && len(b) < int(size) {
		err = refuse(w.offset(), "truncated in a record: %s of %d bytes, of which there are %d", k.name, size, len(b))
	}
	return b, err
}

// peekHeader returns the next record's header, or nil if there is nothing more.
func peekHeader(w window) ([]byte, error) {
	b, err := w.peek(headerSize)
	switch {
	case err != nil || len(b) == headerSize:
		return b, err
	case len(b) == 0:
		return nil, nil
	}
	return nil, refuse(w.offset(), "truncated in the header of a record")
}

// readName reads a FILENAME.
func readName(w window) (string, error) {
	off := w.offset()
	b, err := peekHeader(w)
	if err != nil {
		return "", err
	}
	if b == nil {
		return "", refuse(off, "truncated where a FILENAME should be")
	}
	k, size, err := kindOf(b, off)
	if err != nil {
		return "", err
	}
	if k.id != typeFilename {
		return "", refuse(off, "%s where a FILENAME should be", k.name)
	}
	if b, err = peekRecord(w, k, size); err != nil {
		return "", err
	}
	t, err := text(b[headerSize:])
	name := string(t)
	if err == nil {
		err = CheckName(name)
	}
	if err != nil {
		return "", refuse(off, "FILENAME: %w", err)
	}
	w.skip(len(b))
	return name, nil
}

// A head reads a node's records from its ENTRY to its content.
type head struct {
	root  bool          // a directory, whose flags count from here on
	flags feature.Flags // of the archive

	n      *Node
	place  int // of the last record
	xattrs int // bytes of the attributes' names so far

	// The owners are mostly those of the node before.
	lastUser, lastGroup string
}

// read fills in n from its ENTRY on.
func (h *head) read(w window, n *Node) error {
	h.n, h.place, h.xattrs = n, 0, 0
	n.Head = w.offset()
	for {
		off := w.offset()
		b, err := peekHeader(w)
		if err != nil {
			return err
		}
		k, size, err := h.next(b, off)
		if err != nil {
			return err
		}
		if k.place == content {
			return h.content(w, k, size)
		}
		if b, err = peekRecord(w, k, size); err != nil {
			return err
		}
		if err := k.read(h, b[headerSize:]); err != nil {
			return refuse(off, "%s: %w", k.name, err)
		}
		h.place = k.place
		w.skip(len(b))
	}
}

// nothing stands for the end of what there is to read.
var nothing = kind{name: "truncated", place: content}

// next judges the record with the header b, which stands at off: whether one of
// that type and size may come now.
func (h *head) next(b []byte, off int64) (*kind, uint64, error) {
	if b == nil {
		if h.place == 0 {
			return nil, 0, refuse(off, "truncated where an ENTRY should be")
		}
		return &nothing, 0, nil
	}
	k, size, err := kindOf(b, off)
	switch {
	case err != nil && k == nil && h.root && h.place == 0:
		return nil, 0, refuse(off, "not an archive (want a .catar file)")
	case err != nil:
		return nil, 0, err
	case (h.place == 0) != (k.id == typeEntry):
		if h.place == 0 {
			return nil, 0, refuse(off, "%s where an ENTRY should be", k.name)
		}
		return nil, 0, refuse(off, "a second ENTRY in one node")
	case k.place < h.place || k.place == h.place && !k.many:
		return nil, 0, refuse(off, "%s is repeated, or out of order", k.name)
	case k.needs != 0 && h.flags&k.needs == 0:
		return nil, 0, refuse(off, "%s in an archive without %v", k.name, k.needs)
	case k.place != content && size > uint64(MaxHead-(off-h.n.Head)):
		return nil, 0, refuse(off, "metadata of more than %d bytes in one node", MaxHead)
	}
	return k, size, nil
}

// content ends the head with the record that it leads up to, or before the one
// that does not belong to it.
func (h *head) content(w window, k *kind, size uint64) error {
	n, off := h.n, w.offset()
	if !n.takes(k) {
		return refuse(off, "%s where the content of a %s should be", k.name, n.kind())
	}
	switch {
	case k.id == typePayload:
		if size-headerSize > uint64(math.MaxInt64-off-headerSize) {
			return refuse(off, "PAYLOAD of %d bytes, which ends beyond 2^63-1", size)
		}
		n.Size = int64(size - headerSize)
		w.skip(headerSize)
	case k.read != nil:
		b, err := peekRecord(w, k, size)
		if err != nil {
			return err
		}
		if err := k.read(h, b[headerSize:]); err != nil {
			return refuse(off, "%s: %w", k.name, err)
		}
		w.skip(len(b))
	}
	n.Body = w.offset()
	if err := n.checkRest(h.flags); err != nil {
		return refuse(n.Head, "entry %q: %w", n.Name, err)
	}
	return nil
}

// takes reports whether k is what follows the metadata of an entry of e's type.
func (e *Entry) takes(k *kind) bool {
	switch {
	case e.IsRegular():
		return k.id == typePayload
	case e.IsSymlink():
		return k.id == typeSymlink
	case e.IsDevice():
		return k.id == typeDevice
	case e.IsDir():
		return k.id == typeFilename || k.id == typeGoodbye
	}
	return k.id == typeFilename || k.id == typeGoodbye || k == &nothing
}

// text is what stands before the NUL that ends b.
func text(b []byte) ([]byte, error) {
	last := len(b) - 1
	switch i := bytes.IndexByte(b, 0); {
	case i < 0:
		return nil, errors.New("no NUL at the end")
	case i < last:
		return nil, fmt.Errorf("a NUL at byte %d of %d", i, len(b))
	}
	return b[:last], nil
}
