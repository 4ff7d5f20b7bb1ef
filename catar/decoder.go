package catar

import (
	"errors"
	"fmt"
	"io"

	"caravel/feature"
)

// DecoderOptions tunes a Decoder. The zero value reads a whole archive.
type DecoderOptions struct {
	// Node, if set, says that the stream is not a whole archive but one node
	// of it, of any type, from its ENTRY record to its end: the Node as it
	// was found (see ParseHead), and its archive's flags.
	Node  *Node
	Flags feature.Flags

	// Bare, if not 0, says that the stream lacks the bytes of payloads and of
	// tables (see [Stripper]), and how long the whole archive is. Nodes and
	// errors have that one's offsets; payloads cannot be read.
	Bare int64

	// Closed, if set, is told where the table of each directory lies that ends,
	// before Next returns the node behind it. Its error ends the decoder.
	Closed func(goodbye, end int64) error
}

// A Decoder reads an archive from its start to its end and refuses whatever
// docs/formats.md, section 11, says is to be refused. Errors name offsets in
// the archive; after one there are no more nodes.
type Decoder struct {
	in    input
	head  head
	alone *Node // what the stream has in place of an archive; nil: an archive
	bare  int64 // length of the archive that is bare; 0: it is whole
	begun bool
	err   error

	closed func(goodbye, end int64) error

	open directories
	node Node  // the last one given out
	left int64 // bytes of its payload that were not read
}

// NewDecoder reads an archive from r. If r is an io.Seeker as well, payloads
// that nobody reads are skipped by seeking. r is not closed, and may be read
// beyond the archive's end.
func NewDecoder(r io.Reader, opt DecoderOptions) *Decoder {
	d := &Decoder{in: input{r: r}, head: head{root: true}, bare: opt.Bare, closed: opt.Closed}
	if s, ok := r.(io.Seeker); ok && d.bare == 0 {
		// A pipe has the method, too.
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			d.in.seeker, d.in.first = s, at
		}
	}
	if opt.Node != nil {
		alone := *opt.Node
		d.alone, d.in.off, d.in.base = &alone, alone.Head, alone.Head
		d.head = head{flags: opt.Flags}
	}
	return d
}

// Next returns the next node: the root, then everything below it, each
// directory before its children (all directories with a Depth of that node's
// or more are over when it comes). What is left of the former node's payload is
// skipped. io.EOF: the archive has ended as it must.
//
// The Node is the same one each time, and is filled in anew by the following
// call. A copy of it stays as it is: what it refers to is not used again.
//
// The Depth of a stream that is one node of an archive counts from that node.
func (d *Decoder) Next() (*Node, error) {
	if d.err != nil {
		return nil, d.err
	}
	n, err := d.next()
	d.err = err
	return n, err
}

// Flags are the archive's feature flags, known after the first Next.
func (d *Decoder) Flags() feature.Flags { return d.head.flags }

// Offset is how many bytes of the stream were used so far; of a bare archive,
// how many of the whole one.
func (d *Decoder) Offset() int64 { return d.in.off - d.in.base }

func (d *Decoder) next() (*Node, error) {
	if err := d.skipPayload(); err != nil {
		return nil, err
	}
	if !d.begun {
		d.begun = true
		return d.first()
	}
	for len(d.open) > 0 {
		n, err := d.step()
		if n != nil || err != nil {
			return n, err
		}
	}
	return nil, d.end()
}

// first returns the node that the stream is of.
func (d *Decoder) first() (*Node, error) {
	if d.alone == nil {
		return d.readNode("", d.in.off)
	}
	return d.readNode(d.alone.Name, d.alone.Start)
}

// end makes sure that nothing follows the last node.
func (d *Decoder) end() error {
	switch {
	case d.bare > 0 && d.in.off != d.bare:
		return refuse(d.in.off, "the root ends, in an archive of %d bytes", d.bare)
	case d.bare == 0 && d.head.flags == feature.Desync && d.alone == nil:
		return io.EOF
	}
	b, err := d.in.peek(1)
	switch {
	case err != nil:
		return err
	case len(b) == 0:
		return io.EOF
	}
	return refuse(d.in.off, "bytes after the end of the root")
}

// step reads a child of the directory that is open, or the table that ends it;
// then there is no node.
func (d *Decoder) step() (*Node, error) {
	dir, off := d.open.top(), d.in.off
	b, err := peekHeader(&d.in)
	switch {
	case err != nil:
		return nil, err
	case b == nil:
		return nil, refuse(off, "truncated in a directory, before its GOODBYE")
	}
	dir.children.endAt(off)
	if u64(b, 1) == typeGoodbye {
		return nil, d.closeDir(dir)
	}
	name, err := readName(&d.in)
	if err != nil {
		return nil, err
	}
	if err := d.order(dir, name); err != nil {
		return nil, refuse(off, "%w", err)
	}
	if depth := len(d.open) + d.above(); depth >= MaxDepth {
		return nil, refuse(off, "%q is %d levels deep, above %d", name, depth+1, MaxDepth)
	}
	dir.count++
	if d.bare == 0 {
		dir.children.add(name, off)
	}
	if d.head.flags == feature.Desync {
		b, err := peekHeader(&d.in)
		if err != nil {
			return nil, err
		}
		if b != nil && (u64(b, 1) == typeFilename || u64(b, 1) == typeGoodbye) {
			return nil, nil // a FIFO or a socket, of which desync writes no more
		}
	}
	return d.readNode(name, off)
}

// above is how many nodes of a path lie above the first one of the stream.
func (d *Decoder) above() int {
	if d.alone == nil {
		return 0
	}
	return d.alone.Depth
}

// order refuses names that are repeated, or not sorted where they have to be.
func (d *Decoder) order(dir *directory, name string) error {
	if d.head.flags == feature.Desync {
		if _, twice := dir.names[name]; twice {
			return fmt.Errorf("FILENAME: %q comes twice", name)
		}
		if dir.names == nil {
			dir.names = make(map[string]struct{})
		}
		dir.names[name] = struct{}{}
		return nil
	}
	if dir.count > 0 && name <= dir.last {
		if name == dir.last {
			return fmt.Errorf("FILENAME: %q comes twice", name)
		}
		return fmt.Errorf("FILENAME: %q comes after %q", name, dir.last)
	}
	dir.last = name
	return nil
}

// readNode reads a node's metadata, and opens it if it is a directory.
func (d *Decoder) readNode(name string, start int64) (*Node, error) {
	n := &d.node
	*n = Node{Name: name, Start: start, Depth: len(d.open)}
	if err := d.head.read(&d.in, n); err != nil {
		return nil, err
	}
	d.head.root = false
	if n.IsDir() {
		d.open.push(n.Head)
	}
	d.left = n.Size
	return n, nil
}

// closeDir takes the table in front of it, which ends a directory.
func (d *Decoder) closeDir(dir *directory) error {
	off, n := d.in.off, dir.count
	b, err := peekHeader(&d.in)
	if err != nil {
		return err
	}
	if size := u64(b, 0); size != uint64(tableSize(n)) {
		return refuse(off, "GOODBYE of %d bytes, not %d for %d children", size, tableSize(n), n)
	}
	d.in.skip(headerSize)
	if d.bare > 0 {
		err = d.pass(tableSize(n) - headerSize)
	} else {
		err = d.compareTable(dir, off)
	}
	if err != nil {
		return err
	}
	d.open.pop()
	if d.closed != nil {
		return d.closed(off, d.in.off)
	}
	return nil
}

// compareTable compares the items of the table at goodbye with what has been
// read.
func (d *Decoder) compareTable(dir *directory, goodbye int64) error {
	n := len(dir.children)
	dir.children.sort()
	items := tableCheck{children: dir.children, goodbye: goodbye, desync: d.head.flags == feature.Desync}
	for i := range n + 1 {
		at := d.in.off
		b, err := d.in.peek(itemSize)
		if err != nil {
			return err
		}
		if len(b) < itemSize {
			return refuse(at, "truncated in a GOODBYE of %d bytes", tableSize(n))
		}
		got := [3]uint64{u64(b, 0), u64(b, 1), u64(b, 2)}
		if i < n {
			err = items.check(i, got)
		} else if want := tail(goodbye, dir.entry, n); got != want {
			err = fmt.Errorf("GOODBYE: tail %#x, not %#x", got, want)
		}
		if err != nil {
			return refuse(at, "%w", err)
		}
		d.in.skip(itemSize)
	}
	return nil
}

// pass goes over n bytes that a bare archive lacks.
func (d *Decoder) pass(n int64) error {
	if n > d.bare-d.in.off {
		return refuse(d.in.off, "%d bytes that were left out, in an archive of %d", n, d.bare)
	}
	d.in.off += n
	return nil
}

// Read reads the payload of the regular file that Next returned last.
func (d *Decoder) Read(p []byte) (int, error) {
	switch {
	case d.err != nil && d.err != io.EOF:
		return 0, d.err
	case d.left == 0:
		return 0, io.EOF
	case d.bare > 0:
		return 0, errLeftOut
	case int64(len(p)) > d.left:
		p = p[:d.left]
	}
	n, err := d.in.read(p)
	d.left -= int64(n)
	if err != nil && n == 0 {
		return 0, d.cut(err)
	}
	return n, nil
}

// WriteTo writes what is left of the payload of the regular file that Next
// returned last. A file that is written to another is copied by the kernel if
// that is able to.
func (d *Decoder) WriteTo(w io.Writer) (int64, error) {
	if d.err != nil && d.err != io.EOF {
		return 0, d.err
	}
	if d.bare > 0 && d.left > 0 {
		return 0, errLeftOut
	}
	n, err := d.in.writeTo(w, d.left)
	d.left -= n
	if err != nil {
		return n, d.cut(err)
	}
	return n, nil
}

var errLeftOut = errors.New("catar: a bare archive has no payloads")

// cut says where a payload broke off.
func (d *Decoder) cut(err error) error {
	n := &d.node
	if err == io.EOF {
		d.err = refuse(d.in.off, "truncated in the payload of %q, %d bytes before its end at %d", n.Name, d.left, n.Body+n.Size)
	} else {
		d.err = fmt.Errorf("entry %q: %w", n.Name, err) // which says itself where it was born
	}
	return d.err
}

func (d *Decoder) skipPayload() error {
	if d.bare > 0 {
		n := d.left
		d.left = 0
		return d.pass(n)
	}
	for d.left > 0 {
		n, err := d.in.discard(d.left)
		d.left -= n
		if err != nil {
			return d.cut(err)
		}
	}
	return nil
}

var _ interface {
	io.Reader
	io.WriterTo
} = (*Decoder)(nil)
