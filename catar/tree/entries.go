package tree

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"caravel/catar"
)

// An entry is kept for every node that was seen. It does not change after it
// was added, so it is read without a lock. It has no pointers: a million of
// them cost the garbage collector nothing.
type entry struct {
	head, end int64 // from the ENTRY record to the end
	mtime     int64
	body      uint32 // length of its metadata from the ENTRY record on
	name      uint32 // where the arena has it; a link's target, if kept, follows
	uid, gid  uint32
	parent    ID
	extra     uint32 // a directory's number, a link's length, a device's numbers
	mode      uint16
	who       uint16 // the names of its owners; 0: none
	bits      uint8
	nameLen   uint8
	depth     uint8 // 0: the root
}

// The bits of an entry.
const (
	plain  = 1 << iota // see Attr
	xattrs             // see Attr
	target             // the arena has the target of the link
)

// keptTarget is the length up to which the targets of links are kept.
const keptTarget = 256

func isDir[M uint16 | uint32](mode M) bool { return uint32(mode)&catar.ModeType == catar.ModeDir }

func (e *entry) bodyAt() int64 { return e.head + int64(e.body) }

// start is where the entry's first record is.
func (e *entry) start() int64 {
	if e.nameLen == 0 {
		return e.head
	}
	return e.head - header - int64(e.nameLen) - 1
}

func (e *entry) attr(id ID) Attr {
	a := Attr{
		ID:     id,
		Ino:    uint64(e.head) + 1,
		Mode:   uint32(e.mode),
		UID:    e.uid,
		GID:    e.gid,
		MTime:  e.mtime,
		Plain:  e.bits&plain != 0,
		XAttrs: e.bits&xattrs != 0,
	}
	switch e.mode & catar.ModeType {
	case catar.ModeRegular:
		a.Size = e.end - e.bodyAt()
	case catar.ModeLink:
		a.Size = int64(e.extra)
	case catar.ModeChar, catar.ModeBlock:
		a.Major, a.Minor = e.extra>>minorBits, e.extra&(1<<minorBits-1)
	}
	return a
}

// A dir is what a directory has beside its entry.
type dir struct {
	all     atomic.Pointer[children]    // nil: not all of them are known
	table   atomic.Pointer[catar.Table] // nil: not read, or not needed any more
	dirs    atomic.Uint32               // how many of all are directories, and one; 0: nobody has counted
	goodbye int64                       // where the table is, 0: that could not be read; does not change
	single  []ID                        // until all is set, the children seen, by where they are; under Tree.mu
}

// one finds the child of a directory that has its ENTRY at head among those
// seen singly, or where in their order it would stand. The caller holds t.mu.
func (t *Tree) one(d *dir, head int64) (at int, ok bool) {
	return slices.BinarySearchFunc(d.single, head, func(id ID, head int64) int {
		return cmp.Compare(t.entries.at(uint32(id)).head, head)
	})
}

// children are all those of a directory, in the archive's order.
type children struct {
	n      int
	first  ID       // if ids is nil, the children are numbered from here
	ids    []ID     // some were seen before the others
	byName []uint32 // their positions by the order of names; nil: it is the archive's
}

var noChildren = &children{}

func (c *children) id(i int) ID {
	if c.ids != nil {
		return c.ids[i]
	}
	return c.first + ID(i)
}

// found is an entry before it is added.
type found struct {
	entry
	name    string
	target  string
	owners  owners
	goodbye int64        // of a directory; 0: not known
	table   *catar.Table // of a directory, if it came along
	record  uint32       // the number of what else its records say; see records
}

// what names the entry in an error.
func (f *found) what() string {
	if f.head == 0 {
		return "the root"
	}
	return fmt.Sprintf("entry %q", f.name)
}

// nodes are the entries that were seen.
type nodes struct {
	entries list[entry]
	dirs    list[dir]
	names   arena
	most    int // the length up to which the targets of links are kept

	owners    list[owners]
	ownersNum map[owners]uint16
}

// owners are the names of an entry's user and group, of which an image has few; "":
// none was recorded.
type owners struct{ user, group string }

// maxOwners is how many are kept, which no honest image has.
const maxOwners = 1<<16 - 1

// number gives names a number, 0 to none, and to those that are too many.
func (ns *nodes) number(o owners) uint16 {
	num, ok := ns.ownersNum[o]
	if ok || o == (owners{}) || ns.owners.len() > maxOwners {
		return num
	}
	if ns.ownersNum == nil {
		ns.ownersNum = map[owners]uint16{}
		ns.owners.next() // 0 is nobody's
		ns.owners.publish()
	}
	*ns.owners.next() = owners{strings.Clone(o.user), strings.Clone(o.group)}
	num = uint16(ns.owners.len())
	ns.owners.publish()
	ns.ownersNum[o] = num
	return num
}

// ownersOf are those of an entry, as far as they were kept.
func (ns *nodes) ownersOf(e *entry) owners {
	if e.who == 0 {
		return owners{}
	}
	return *ns.owners.at(uint32(e.who))
}

// add gives an entry its number. One at a time adds.
func (ns *nodes) add(f found) (ID, error) {
	if ns.entries.len() == 0 { // 0 is nobody's ID
		ns.entries.next()
		ns.entries.publish()
	}
	id := ns.entries.len()
	if uint64(id) == math.MaxUint32 {
		return 0, fmt.Errorf("tree: offset %d: more than %d entries", f.head, id-1)
	}
	e := f.entry
	e.who = ns.number(f.owners)
	keep := f.target
	if len(keep) > ns.most {
		keep = ""
	}
	var ok bool
	if e.name, ok = ns.names.put(f.name, keep); !ok {
		return 0, fmt.Errorf("tree: offset %d: more than 4 GiB of names", f.head)
	}
	if keep != "" {
		e.bits |= target
	}
	if isDir(e.mode) {
		e.extra = uint32(ns.dirs.len())
		d := ns.dirs.next()
		d.goodbye = f.goodbye
		if f.table != nil && f.table.Len() == 0 {
			d.all.Store(noChildren)
		} else {
			d.table.Store(f.table)
		}
		ns.dirs.publish()
	}
	if f.head == 0 {
		e.parent = Root
	}
	*ns.entries.next() = e
	ns.entries.publish()
	return ID(id), nil
}
