package walk

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
)

// A dir is an open directory. It is open as long as somebody holds it: the
// scout while it is in there, a node while it has to be opened.
type dir struct {
	up      *dir
	name    string // of the root: as the caller says it
	fd      int
	holders atomic.Int32
	depth   int  // nodes from the root to here, both counted
	virtual bool // what is in there is not packed
	ctime   inode.Ctime
	st      unix.Statx_t
}

func (d *dir) hold() { d.holders.Add(1) }

func (d *dir) release() {
	if d.holders.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// path names the child name, or with "" the directory itself, for people.
func (d *dir) path(name string) string {
	p := name
	for ; d != nil; d = d.up {
		p = filepath.Join(d.name, p)
	}
	if q := strconv.Quote(p); q[1:len(q)-1] != p {
		return q
	}
	return p
}

// below is the path of the child name, from the root on.
func (d *dir) below(name string) string {
	for ; d.up != nil; d = d.up {
		name = d.name + "/" + name
	}
	return name
}

// What a node is in the stream.
type place uint8

const (
	leaf   place = iota
	opened       // a directory, before its children
	closed       // its end
)

// A node is one step of the stream on its way from the scout, which says where
// it is, by a worker, which reads it, to the Reader. What it holds of
// descriptors is given up by drop.
type node struct {
	place place
	in    *dir   // of a leaf the directory that it is in, else the directory itself
	held  bool   // in counts this node among its holders
	name  string // "": the root
	typ   uint32 // of a leaf: what it was listed as, in the terms of st_mode

	err   error        // nothing of what follows counts
	out   bool         // it turned out to be left out
	entry *catar.Entry // of all but closed
	known bool         // of a file: its bytes are not read
	ctime inode.Ctime  // of a file, if Reader.known is not nil
	data  []byte       // of a file up to smallFile
	fd    int          // of a larger one; else -1
	st    unix.Statx_t
}

// drop gives up what n holds.
func (n *node) drop() {
	n.close()
	n.letGo()
	*n = node{fd: -1}
}

// close gives up the descriptor, if there is one.
func (n *node) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
		n.fd = -1
	}
}

// letGo gives up the directory.
func (n *node) letGo() {
	if n.held {
		n.in.release()
		n.held = false
	}
}

// path names the node for people.
func (n *node) path() string {
	if n.place == leaf {
		return n.in.path(n.name)
	}
	return n.in.path("")
}

// errorAt says where err was met, and from which room it is unless it says that.
func errorAt(path string, err error) error {
	if t, ok := err.(told); ok {
		return fmt.Errorf("%s: %w", path, t.error)
	}
	return fmt.Errorf("walk: %s: %w", path, err)
}

// A told error names the room that it is from.
type told struct{ error }

// tell makes err, of another room, a told one.
func tell(err error) error {
	if err == nil {
		return nil
	}
	return told{err}
}

const (
	// smallFile is up to how many bytes a file is read ahead.
	smallFile = 256 << 10

	// batchNodes is how many nodes a worker takes at once, so that handing
	// them over costs little beside reading them, and batches how many such
	// batches there are.
	batchNodes = 8
	batches    = 16
)

// A batch is some nodes that follow one another, with the room for their bytes.
type batch struct {
	nodes [batchNodes]node
	n     int
	buf   []byte
	ready chan struct{} // of room 1; gets something when the nodes are read
}

func newBatch() *batch {
	b := &batch{ready: make(chan struct{}, 1)}
	for i := range b.nodes {
		b.nodes[i].fd = -1
	}
	return b
}

// room returns n bytes that are the caller's until the batch is reset.
func (b *batch) room(n int) []byte {
	if cap(b.buf)-len(b.buf) < n {
		// Those that have a part of the old one keep it.
		b.buf = make([]byte, 0, min(max(2*cap(b.buf), n, 64<<10), batchNodes*smallFile))
	}
	at := len(b.buf)
	b.buf = b.buf[:at+n]
	return b.buf[at : at+n : at+n]
}

// reset makes the batch empty.
func (b *batch) reset() {
	for i := range b.nodes[:b.n] {
		b.nodes[i].drop()
	}
	b.n = 0
	b.buf = b.buf[:0]
}
