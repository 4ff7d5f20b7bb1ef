package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"syscall"

	"caravel/catar"
)

const (
	headGuess = 512  // bytes read of a node's start
	tailGuess = 1024 // and of its end, where a directory has its table

	bigRead   = 1 << 20               // what takes more memory than this is read one at a time
	smallNode = headGuess + tailGuess // a node that is read whole
	header    = 16                    // of a record
	minEntry  = 64                    // ENTRY
	maxAbove  = catar.MaxDepth - 1    // directories above an entry
	minorBits = 20                    // of a device's numbers
)

// fetch reads the node in a span of the directory parent, and if it is a
// directory where its table is, in one round. A table that does not fit the
// guess is left for later, and so is one that cannot be read: that concerns
// those who want what is in there, and nobody else.
func (t *Tree) fetch(ctx context.Context, s catar.Span, parent ID, depth int) (found, error) {
	n := s.End - s.Start
	switch {
	case n <= smallNode:
		b := make([]byte, n)
		if err := t.read(ctx, b, s.Start); err == nil {
			return t.parse(ctx, b, b, s, parent, depth)
		}
	case t.opt.Want == nil:
		return t.fetchBoth(ctx, s, parent, depth)
	default:
		// Most nodes are files, of which the last bytes are of no use here:
		// nobody waits for them.
		t.opt.Want(s.End-tailGuess, tailGuess)
	}
	return t.fetchInTurn(ctx, s, parent, depth)
}

// fetchInTurn reads a node's first bytes, and its last ones only if it is a
// directory.
func (t *Tree) fetchInTurn(ctx context.Context, s catar.Span, parent ID, depth int) (found, error) {
	n := s.End - s.Start
	head := make([]byte, min(headGuess, n))
	if err := t.read(ctx, head, s.Start); err != nil {
		return found{}, err
	}
	f, err := t.parse(ctx, head, nil, s, parent, depth)
	if err != nil || !isDir(f.mode) {
		return f, err
	}
	tail := make([]byte, min(tailGuess, n))
	if err := t.read(ctx, tail, s.End-int64(len(tail))); err != nil {
		return f, ended(ctx)
	}
	return t.parseTail(ctx, f, tail)
}

// fetchBoth reads a node's first and last bytes at the same time.
func (t *Tree) fetchBoth(ctx context.Context, s catar.Span, parent ID, depth int) (found, error) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	tail := make([]byte, tailGuess)
	var other sync.WaitGroup
	other.Go(func() {
		if t.read(both, tail, s.End-tailGuess) != nil {
			tail = nil
		}
	})
	head := make([]byte, headGuess)
	err := t.read(both, head, s.Start)
	if err != nil {
		cancel()
	}
	other.Wait()
	if err != nil {
		return found{}, err
	}
	f, err := t.parse(ctx, head, tail, s, parent, depth)
	return f, cmp.Or(err, ended(ctx))
}

// ended is why ctx is over; nil: it is not.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// parse makes an entry of the node in the span s. head holds its first bytes,
// tail its last ones, or nothing if they come later; what they lack is read.
func (t *Tree) parse(ctx context.Context, head, tail []byte, s catar.Span, parent ID, depth int) (found, error) {
	n, head, err := t.parseHead(ctx, head, s)
	if err != nil {
		return found{}, err
	}
	f, err := newFound(n, s, parent, depth)
	if err == nil && t.records != nil {
		f.record = t.records.number(n, head)
	}
	if err == nil && isDir(f.mode) && tail != nil {
		return t.parseTail(ctx, f, tail)
	}
	return f, err
}

// parseHead reads the head of the node in the span s out of b, its first bytes,
// and gets more of them as far as they are needed. It returns all of them.
func (t *Tree) parseHead(ctx context.Context, b []byte, s catar.Span) (*catar.Node, []byte, error) {
	small := true
	for {
		n, flags, err := catar.ParseHead(b, s.Start, s.End, t.flags)
		if err == nil {
			if t.entries.len() == 0 {
				t.flags = flags // this is Open, reading the root
			}
			return n, b, nil
		}
		short, ok := errors.AsType[*catar.ShortError](err)
		if !ok {
			return nil, nil, err
		}
		need, most := int64(short.Need), s.End-s.Start
		if need <= int64(len(b)) || need > most {
			return nil, nil, fmt.Errorf("tree: offset %d: the node's head needs %d bytes, it has %d", s.Start, need, most)
		}
		if need > bigRead && small {
			small = false
			big, err := t.big.take(ctx)
			if err != nil {
				return nil, nil, err
			}
			defer func() { <-big }()
		}
		if b, err = t.extend(ctx, b, s.Start, short.Need); err != nil {
			return nil, nil, err
		}
	}
}

// extend returns the n bytes at off, of which b has the first ones.
func (t *Tree) extend(ctx context.Context, b []byte, off int64, n int) ([]byte, error) {
	have := len(b)
	b = append(make([]byte, 0, n), b...)[:n]
	return b, t.read(ctx, b[have:], off+int64(have))
}

// read fills p.
func (t *Tree) read(ctx context.Context, p []byte, off int64) error {
	n, err := t.readAt(ctx, p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("tree: offset %d: %w, in an archive of %d bytes", off+int64(n), io.ErrUnexpectedEOF, t.size)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EINVAL):
		return &sourceError{err}
	}
	return err
}

// readAt reads from the source for those who wait, or from the one for those who
// do not.
func (t *Tree) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if t.opt.Ahead != nil {
		if h := hurryOf(ctx); !h.raised() {
			return t.readAhead(ctx, h, p, off)
		}
	}
	return t.src.ReadAt(ctx, p, off)
}

// A sourceError is a source's that would look like one of this package's: a
// file that is not there says nothing of a name in the archive.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

func (e *sourceError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist, syscall.ENOENT, syscall.ENOTDIR, syscall.EINVAL:
		return false
	}
	return errors.Is(e.err, target)
}

func (e *sourceError) As(target any) bool { return errors.As(e.err, target) }

// newFound makes an entry of the node n in the span s. The parser has checked n;
// what is checked again here is what the rest of the package relies on.
func newFound(n *catar.Node, s catar.Span, parent ID, depth int) (found, error) {
	bad := func(why string, args ...any) (found, error) {
		return found{}, fmt.Errorf("tree: offset %d: entry %q: %s", s.Start, n.Name, fmt.Sprintf(why, args...))
	}
	body, rest := n.Body-n.Head, s.End-n.Body
	switch {
	case depth > maxAbove:
		return bad("more than %d levels", catar.MaxDepth)
	case len(n.Name) > catar.MaxName, (n.Name == "") != (s.Start == 0):
		return bad("a name of %d bytes", len(n.Name))
	case body < minEntry, body > math.MaxUint32, rest < 0:
		return bad("its content is at %d, its end at %d", n.Body, s.End)
	case n.Mode&^(catar.ModeType|0o7777) != 0:
		return bad("mode %#o", n.Mode)
	}
	f := found{name: n.Name, owners: owners{n.User, n.Group}, entry: entry{
		head: n.Head, end: s.End, mtime: n.MTime, body: uint32(body),
		uid: n.UID, gid: n.GID, parent: parent, mode: uint16(n.Mode), bits: kinds(&n.Entry),
		nameLen: uint8(len(n.Name)), depth: uint8(depth),
	}}
	if f.start() != s.Start {
		return bad("its ENTRY is at %d", n.Head)
	}
	switch n.Mode & catar.ModeType {
	case catar.ModeDir:
		if rest < minTable {
			return bad("%d bytes are too few for a directory's table", rest)
		}
		return f, nil
	case catar.ModeRegular:
		if n.Size != rest {
			return bad("a payload of %d bytes in a place of %d", n.Size, rest)
		}
		return f, nil
	case catar.ModeLink:
		f.target, f.extra = n.Target, uint32(len(n.Target))
	case catar.ModeChar, catar.ModeBlock:
		if n.Minor >= 1<<minorBits || n.Major >= 1<<(32-minorBits) {
			return bad("device %d:%d", n.Major, n.Minor)
		}
		f.extra = n.Major<<minorBits | n.Minor
	}
	if rest != 0 {
		return bad("%d bytes behind its end", rest)
	}
	return f, nil
}

// kinds says what there is of an entry that is not kept.
func kinds(e *catar.Entry) (b uint8) {
	if len(e.XAttrs) > 0 || e.ACL != nil || e.SELinux != "" || e.FCaps != nil {
		b |= xattrs
	}
	if b == 0 && e.Flags == 0 && e.User == "" && e.Group == "" && e.ProjID == 0 {
		b |= plain
	}
	return b
}
