package catar

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"caravel/feature"
)

// An Encoder writes an archive. After an error it writes nothing more, and
// says the same again.
type Encoder struct {
	w     io.Writer
	flags feature.Flags
	buf   []byte // what w has not got yet
	off   int64  // of the archive's end, buf counted
	err   error

	open  directories
	begun bool
	name  string // of the last node
	left  int64  // bytes that its payload lacks
}

// NewEncoder returns an Encoder for an archive with the normal flags f.
func NewEncoder(w io.Writer, f feature.Flags) (*Encoder, error) {
	if err := f.Check(); err != nil {
		return nil, fmt.Errorf("catar: %w", err)
	}
	return &Encoder{w: w, flags: f}, nil
}

// Begin writes a node up to its content: the root first, with the name "", then
// the children of the directory that is open, in the order of their names. A
// directory is open until End; a regular file gets n.Size bytes by Write or
// ReadFrom; of all others this is all. The entry is reduced to the archive's
// flags (see [Entry.Reduce]) and checked as the decoder checks it; n itself is
// left as it is.
func (e *Encoder) Begin(name string, n *Entry) error {
	if e.err == nil {
		e.err = e.begin(name, *n)
	}
	return e.err
}

// Write writes payload of the file that Begin opened.
func (e *Encoder) Write(p []byte) (int, error) {
	switch {
	case e.err != nil:
		return 0, e.err
	case int64(len(p)) > e.left:
		e.err = e.tooLong()
		return 0, e.err
	}
	if len(p) < directWrite {
		e.buf = append(e.buf, p...)
		e.wrote(int64(len(p)))
		e.err = e.flushFull()
		return len(p), e.err
	}
	if e.err = e.flush(); e.err != nil {
		return 0, e.err
	}
	n, err := e.w.Write(p)
	e.wrote(int64(n))
	if err != nil {
		e.err = fmt.Errorf("catar: %w", err)
	}
	return n, e.err
}

// ReadFrom writes payload of the file that Begin opened: all that r has, which
// must not be more than is missing. A large file that goes into another is
// copied by the kernel if that is able to.
func (e *Encoder) ReadFrom(r io.Reader) (int64, error) {
	var done int64
	for e.err == nil {
		n, err := e.readFrom(r)
		done += n
		if err == io.EOF {
			return done, nil
		}
		e.err = err
	}
	return done, e.err
}

// readFrom takes a part of what r has.
func (e *Encoder) readFrom(r io.Reader) (int64, error) {
	if e.left >= bigCopy {
		if err := e.flush(); err != nil {
			return 0, err
		}
		n, err := io.CopyN(e.w, r, e.left)
		e.wrote(n)
		if err != nil && err != io.EOF {
			err = fmt.Errorf("catar: payload of %q: %w", e.name, err)
		}
		return n, err
	}
	// One byte more than is missing, to see that r has no more.
	have := len(e.buf)
	e.buf = slices.Grow(e.buf, int(min(e.left+1, directWrite)))
	n, err := r.Read(e.buf[have:min(cap(e.buf), have+int(e.left)+1)])
	if int64(n) > e.left {
		return 0, e.tooLong()
	}
	e.buf = e.buf[:have+n]
	e.wrote(int64(n))
	if err != nil && err != io.EOF {
		return int64(n), fmt.Errorf("catar: payload of %q: %w", e.name, err)
	}
	return int64(n), cmp.Or(e.flushFull(), err)
}

// End ends the directory that is open with its table. With the root's the
// archive is complete.
func (e *Encoder) End() error {
	if e.err == nil {
		e.err = e.end()
	}
	return e.err
}

// Offset is the number of bytes written so far.
func (e *Encoder) Offset() int64 { return e.off }

func (e *Encoder) begin(name string, n Entry) error {
	if err := e.place(name); err != nil {
		return err
	}
	n.Reduce(e.flags)
	if err := n.check(e.flags); err != nil {
		return fmt.Errorf("catar: entry %q: %w", name, err)
	}
	root := len(e.open) == 0
	if root && !n.IsDir() {
		return fmt.Errorf("catar: the root is a %s", n.kind())
	}
	start := len(e.buf)
	if !root {
		dir := e.open.top()
		dir.children.endAt(e.off)
		dir.children.add(name, e.off)
		dir.last = name
		e.buf = appendText(e.buf, typeFilename, name)
	}
	entry := len(e.buf)
	e.buf = appendHead(e.buf, &n, e.flags)
	if size := len(e.buf) - entry; size > MaxHead {
		return fmt.Errorf("catar: entry %q: %d bytes of metadata, above %d", name, size, MaxHead)
	}
	if n.IsDir() {
		e.open.push(e.off + int64(entry-start))
	}
	e.off += int64(len(e.buf) - start)
	e.begun, e.name, e.left = true, name, n.Size
	return e.flushFull()
}

// place refuses a node that may not come now.
func (e *Encoder) place(name string) error {
	if err := e.complete(); err != nil {
		return err
	}
	switch {
	case !e.begun && name != "":
		return fmt.Errorf("catar: entry %q before the root", name)
	case !e.begun:
		return nil
	case len(e.open) == 0:
		return fmt.Errorf("catar: entry %q after the end of the root", name)
	case len(e.open) >= MaxDepth:
		return fmt.Errorf("catar: entry %q: %d levels deep, above %d", name, len(e.open)+1, MaxDepth)
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("catar: %w", err)
	}
	if dir := e.open.top(); len(dir.children) > 0 && name <= dir.last {
		return fmt.Errorf("catar: entry %q comes after %q", name, dir.last)
	}
	return nil
}

// complete refuses to leave a file whose payload is.
func (e *Encoder) complete() error {
	if e.left > 0 {
		return fmt.Errorf("catar: entry %q: %d bytes of payload are missing", e.name, e.left)
	}
	return nil
}

func (e *Encoder) tooLong() error {
	return fmt.Errorf("catar: entry %q: more payload than its size", e.name)
}

func (e *Encoder) end() error {
	if err := e.complete(); err != nil {
		return err
	}
	if len(e.open) == 0 {
		return errors.New("catar: no directory is open")
	}
	dir := e.open.top()
	goodbye, n := e.off, len(dir.children)
	dir.children.endAt(goodbye)
	dir.children.sort()

	e.buf = appendU64(e.buf, uint64(tableSize(n)), typeGoodbye)
	for i := range n {
		item := dir.children[rank(i, n)].numbers(goodbye)
		e.buf = appendU64(e.buf, item[:]...)
		if err := e.flushFull(); err != nil { // a table may be longer than all the rest
			return err
		}
	}
	last := tail(goodbye, dir.entry, n)
	e.buf = appendU64(e.buf, last[:]...)
	e.off += tableSize(n)
	e.open.pop()
	if len(e.open) == 0 {
		return e.flush()
	}
	return e.flushFull()
}

const (
	fullBuffer = 64 << 10

	// From this many bytes on, a payload goes past the buffer. Smaller ones
	// are copied, to save the writer calls.
	directWrite = 16 << 10
)

func (e *Encoder) wrote(n int64) {
	e.off += n
	e.left -= n
}

func (e *Encoder) flushFull() error {
	if len(e.buf) < fullBuffer {
		return nil
	}
	return e.flush()
}

func (e *Encoder) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return fmt.Errorf("catar: %w", err)
	}
	return nil
}

var _ interface {
	io.Writer
	io.ReaderFrom
} = (*Encoder)(nil)
