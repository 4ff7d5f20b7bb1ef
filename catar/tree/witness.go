package tree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"caravel/catar"
	"caravel/feature"
)

// ErrContradicted says that the archive is not what its sidecar says.
var ErrContradicted = errors.New("the archive contradicts its sidecar")

// A witness remembers what of a sidecar the archive itself has said as well.
type witness struct {
	heads  bits        // by ID: the entry's own records are in the archive
	tables bits        // by a directory's number: so are its children where they are
	doubt  atomic.Bool // the archive contradicts the sidecar somewhere

	mu  sync.Mutex // guards bad
	bad map[ID]error

	head  flights[struct{}]
	table flights[struct{}]
	once  sync.Once
}

// with makes the tree one of a sidecar.
func (t *Tree) with(s *Sidecar) (*Tree, error) {
	if s.size != t.size {
		return nil, refused("of an archive of %d bytes, not %d", s.size, t.size)
	}
	t.nodes, t.flags = s.nodes, s.flags
	t.witness = &witness{heads: newBits(t.entries.len()), tables: newBits(t.dirs.len()), bad: make(map[ID]error)}
	return t, nil
}

// Known reports whether all entries were known from the start: the tree has a
// sidecar, which nothing has contradicted. Then Find, Children, Walk and Target
// read nothing.
func (t *Tree) Known() bool { return t.witness != nil && !t.witness.doubt.Load() }

// doubts reports whether the sidecar is not believed any more.
func (t *Tree) doubts() bool { return t.witness != nil && t.witness.doubt.Load() }

// Bits are as many as were made, each set once.
type bits []atomic.Uint32

func newBits(n int) bits { return make(bits, (n+31)/32) }

func (b bits) has(i uint32) bool { return b[i/32].Load()&(1<<(i%32)) != 0 }

func (b bits) set(i uint32) { b[i/32].Or(1 << (i % 32)) }

// refusal is why an entry is not to be believed for ever; nil: nothing is known.
func (w *witness) refusal(id ID) error {
	if !w.doubt.Load() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bad[id]
}

// contradict makes an error of what the archive says of an entry, which stays
// its error, and tells of the first one.
func (t *Tree) contradict(id ID, off int64, format string, args ...any) error {
	w := t.witness
	err := fmt.Errorf("tree: offset %d: %s: %w: %w", off, t.what(id), fmt.Errorf(format, args...), ErrContradicted)
	w.mu.Lock()
	if before := w.bad[id]; before != nil {
		err = before
	} else {
		w.bad[id] = err
	}
	w.mu.Unlock()
	w.doubt.Store(true)
	w.once.Do(func() {
		t.opt.Log.Debug("sidecar dropped", slog.Any("err", err))
		if t.opt.Dropped != nil {
			t.opt.Dropped(err)
		}
	})
	return err
}

// headEnd is up to where an entry's records are read: where the next header
// shows that they are over.
func (t *Tree) headEnd(e *entry) int64 { return min(e.bodyAt()+header, t.size) }

// checkHead compares an entry with its own records: b is what the archive has
// from its start to headEnd.
func (t *Tree) checkHead(id ID, e *entry, b []byte) (*catar.Node, error) {
	n, flags, err := catar.ParseOpenHead(b, e.start(), t.size, t.flags)
	if _, short := errors.AsType[*catar.ShortError](err); short {
		return nil, t.contradict(id, e.start(), "it has more than %d bytes of records", e.bodyAt()-e.start())
	}
	if err != nil {
		return nil, t.contradict(id, e.start(), "it is not there (%w)", err)
	}
	if field, got, said := t.difference(e, n, flags); field != "" {
		return nil, t.contradict(id, e.start(), "%s %s, not %s", field, got, said)
	}
	t.witness.heads.set(uint32(id))
	n.Depth = int(e.depth)
	return n, nil
}

// difference is what the archive's node n has otherwise than an entry.
func (t *Tree) difference(e *entry, n *catar.Node, flags feature.Flags) (field, got, said string) {
	a, name := e.attr(0), t.names.text(e.name, 0, int(e.nameLen))
	number := func(field string, got, said int64) (string, string, string) {
		return field, strconv.FormatInt(got, 10), strconv.FormatInt(said, 10)
	}
	switch {
	case n.Name != name:
		return "name", strconv.Quote(n.Name), strconv.Quote(name)
	case flags != t.flags:
		return "features", fmt.Sprintf("%#x", uint64(flags)), fmt.Sprintf("%#x", uint64(t.flags))
	case n.Mode != a.Mode:
		return "mode", fmt.Sprintf("%#o", n.Mode), fmt.Sprintf("%#o", a.Mode)
	case n.UID != a.UID:
		return number("user", int64(n.UID), int64(a.UID))
	case n.GID != a.GID:
		return number("group", int64(n.GID), int64(a.GID))
	case n.MTime != a.MTime:
		return number("time", n.MTime, a.MTime)
	case n.IsRegular() && n.Size != a.Size:
		return number("size", n.Size, a.Size)
	case n.IsDevice() && (n.Major != a.Major || n.Minor != a.Minor):
		return "device", fmt.Sprintf("%d:%d", n.Major, n.Minor), fmt.Sprintf("%d:%d", a.Major, a.Minor)
	case n.IsSymlink() && n.Target != t.names.text(e.name, int(e.nameLen), int(e.extra)):
		return "target", strconv.Quote(n.Target), strconv.Quote(t.names.text(e.name, int(e.nameLen), int(e.extra)))
	case n.Body != e.bodyAt():
		return number("content at", n.Body, e.bodyAt())
	case kinds(&n.Entry) != e.bits&(plain|xattrs):
		return "metadata beyond owner, mode and time", have(kinds(&n.Entry)), have(e.bits)
	case t.named(e, n.User, n.Group):
		have := t.ownersOf(e)
		return "owners", fmt.Sprintf("%q and %q", n.User, n.Group), fmt.Sprintf("%q and %q", have.user, have.group)
	}
	return "", "", ""
}

// named reports whether an entry's owners were kept by other names.
func (t *Tree) named(e *entry, user, group string) bool {
	full := e.who == 0 && t.owners.len() > maxOwners
	return !full && t.ownersOf(e) != owners{user, group}
}

// have says what the bits of an entry say.
func have(b uint8) string {
	switch {
	case b&xattrs != 0:
		return "with extended attributes"
	case b&plain != 0:
		return "none"
	}
	return "without extended attributes"
}

// checkTable compares the children of a directory with its table: b is what
// the archive has from d.goodbye to the directory's end.
func (t *Tree) checkTable(ctx context.Context, id ID, e *entry, b []byte) error {
	d := t.dirs.at(e.extra)
	tb, err := catar.ParseTable(b, e.bodyAt(), d.goodbye)
	if err != nil {
		return t.contradict(id, d.goodbye, "it has no table there (%w)", err)
	}
	if _, head, err := catar.ParseTail(b[len(b)-catar.TailSize:], e.end); err != nil || head != e.head {
		return t.contradict(id, d.goodbye, "the table there is that of the directory at %d, not %d", head, e.head)
	}
	all, i := d.all.Load(), 0
	for row := range tb.Len() {
		s := tb.Span(row)
		if i < all.n {
			child := all.id(i)
			c := t.at(child)
			switch {
			case c.start() != s.Start:
			case c.end != s.End:
				return t.contradict(id, d.goodbye, "child %q ends at %d, not %d", t.Name(child), s.End, c.end)
			case !tb.Has(t.Name(child), s):
				return t.contradict(id, d.goodbye, "child %q has another name", t.Name(child))
			default:
				i++
				continue
			}
		}
		alone, err := t.nameAlone(ctx, s)
		if err != nil {
			return err
		}
		if !alone {
			return t.contradict(id, d.goodbye, "there is a child at %d that the sidecar lacks", s.Start)
		}
	}
	if i < all.n {
		return t.contradict(id, d.goodbye, "there is no child %q at %d", t.Name(all.id(i)), t.at(all.id(i)).start())
	}
	t.witness.tables.set(e.extra)
	return nil
}

// nameAlone reports whether all that is in a span is a name without a node,
// which an archive of desync's may have, and of which a tree has no entry.
func (t *Tree) nameAlone(ctx context.Context, s catar.Span) (bool, error) {
	if t.flags != feature.Desync || s.End-s.Start > header+catar.MaxName+1 {
		return false, nil
	}
	b := make([]byte, s.End-s.Start)
	if err := t.read(ctx, b, s.Start); err != nil {
		return false, err
	}
	_, _, err := catar.ParseHead(b, s.Start, s.End, t.flags)
	return errors.Is(err, catar.ErrNoNode), nil
}
