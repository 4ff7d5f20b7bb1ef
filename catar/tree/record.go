package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"caravel/catar"
	"caravel/feature"
)

// records are what the entries do not keep of the records that were read: the
// flags of a file, and what stands between ENTRY and content (owners' names,
// attributes, ACLs …). Most entries of an image have the same, or nothing.
type records struct {
	mu    sync.Mutex // guards what follows
	left  int        // bytes that may still be kept; < 0: none are kept any more
	all   []string
	known map[string]uint32
	of    []uint32 // by ID
}

func newRecords() *records {
	return &records{left: maxRecords, all: []string{noRecord}, known: map[string]uint32{noRecord: 0}}
}

const (
	flagsSize = 8
	noRecord  = "\x00\x00\x00\x00\x00\x00\x00\x00" // no flags, and nothing in between

	// Bytes of records that differ. Entries are small whatever there is; these
	// may be as long as the archive. An image with more of them, since each file
	// has a long attribute of its own, gets no sidecar of a walk.
	maxRecords = 64 << 20
	recordCost = 64 // bytes beside its own that one takes, about
)

// number is that of what n says beyond its entry; b has its head.
func (r *records) number(n *catar.Node, b []byte) uint32 {
	more := n.More(b)
	if n.Flags == 0 && len(more) == 0 {
		return 0
	}
	buf := make([]byte, 0, 256)
	buf = append(binary.LittleEndian.AppendUint64(buf, uint64(n.Flags)), more...)
	r.mu.Lock()
	defer r.mu.Unlock()
	num, ok := r.known[string(buf)]
	if ok || r.left < 0 {
		return num
	}
	if r.left -= len(buf) + recordCost; r.left < 0 {
		r.all, r.known, r.of = nil, nil, nil
		return 0
	}
	num = uint32(len(r.all))
	r.all = append(r.all, string(buf))
	r.known[r.all[num]] = num
	return num
}

// put keeps the number of an entry that was added.
func (r *records) put(id ID, num uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left < 0 {
		return
	}
	for len(r.of) <= int(id) {
		r.of = append(r.of, 0)
	}
	r.of[id] = num
}

// get is what was kept of an entry.
func (r *records) get(id ID) (feature.Flags, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.all[r.of[id]]
	return feature.Flags(binary.LittleEndian.Uint64([]byte(s[:flagsSize]))), s[flagsSize:]
}

// kept reports whether all records were.
func (r *records) kept() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left >= 0
}

var (
	errNotRecorded  = errors.New("tree: no records were kept for a sidecar")
	errTooDifferent = fmt.Errorf("tree: more than %d bytes of attributes that differ, too many for a sidecar", maxRecords)
)

// Sidecar makes the sidecar file out of what a whole walk has recorded (see
// Options.Record and Complete): the same bytes as a [Skimmer]'s. index is the
// SHA-512/256 of the index file. An archive of desync's that has names without
// nodes gets none: what they are is not known here; nor does one with so many
// attributes that differ that not all were kept.
func (t *Tree) Sidecar(index [32]byte) ([]byte, error) {
	if t.records == nil {
		return nil, errNotRecorded
	}
	if !t.records.kept() {
		return nil, errTooDifferent
	}
	p, err := newPacker(maxBody)
	if err != nil {
		return nil, err
	}
	w := writer{t: t, to: p}
	if err := w.node(Root); err != nil {
		return nil, err
	}
	return p.file(index, t.size)
}

// A writer writes what a walk has recorded in the archive's order.
type writer struct {
	t  *Tree
	to *packer
	b  []byte // used again for each record
}

func (w *writer) node(id ID) error {
	t, e := w.t, w.t.at(id)
	w.head(id, e)
	if _, err := w.to.Write(w.b); err != nil || !isDir(e.mode) {
		return err
	}
	d := t.dirs.at(e.extra)
	all := d.all.Load()
	if all == nil {
		return fmt.Errorf("tree: %s was not listed, which a sidecar takes", t.what(id))
	}
	at := e.bodyAt()
	for i := range all.n {
		child := all.id(i)
		c := t.at(child)
		if c.start() != at {
			return fmt.Errorf("tree: offset %d: a name without a node", at)
		}
		if err := w.node(child); err != nil {
			return err
		}
		at = c.end
	}
	if at+catar.TableSize(all.n) != e.end {
		return fmt.Errorf("tree: offset %d: a name without a node", at)
	}
	w.b = catar.AppendBareTable(w.b[:0], all.n)
	_, err := w.to.Write(w.b)
	return err
}

// head puts an entry's records up to its content into b.
func (w *writer) head(id ID, e *entry) {
	t, a := w.t, e.attr(id)
	flags, more := t.records.get(id)
	n := catar.Entry{Mode: a.Mode, Flags: flags, UID: a.UID, GID: a.GID, MTime: a.MTime, Major: a.Major, Minor: a.Minor}
	if n.IsRegular() {
		n.Size = a.Size
	}
	if n.IsSymlink() {
		n.Target = t.names.text(e.name, int(e.nameLen), int(e.extra))
	}
	w.b = catar.AppendBare(w.b[:0], t.Name(id), &n, []byte(more), t.flags)
}

// what names an entry in an error.
func (t *Tree) what(id ID) string {
	if id == Root {
		return "the root"
	}
	return fmt.Sprintf("entry %q", t.path(id))
}

// path is that of an entry from the root, which is "".
func (t *Tree) path(id ID) string {
	e := t.at(id)
	switch {
	case e == nil || id == Root:
		return ""
	case e.parent == Root:
		return t.Name(id)
	}
	return t.path(e.parent) + "/" + t.Name(id)
}
