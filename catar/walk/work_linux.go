package walk

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// work reads the nodes of batches until the walk is over.
func (r *Reader) work() {
	for {
		select {
		case b := <-r.todo:
			for i := range b.nodes[:b.n] {
				if r.ctx.Err() != nil {
					return
				}
				r.prepare(b, &b.nodes[i])
			}
			b.ready <- struct{}{}
		case <-r.ctx.Done():
			return
		}
	}
}

// prepare reads what the stream needs of a node, as far as it is read ahead.
func (r *Reader) prepare(b *batch, n *node) {
	if n.err != nil || n.place == closed {
		return
	}
	var err error
	if n.place == opened {
		n.entry, err = r.entry(n.in.fd, &n.in.st)
	} else {
		err = r.leaf(b, n)
	}
	switch {
	case err == nil:
	case err == errGone:
		n.out = true
		r.vanished(n.path())
	default:
		n.err = errorAt(n.path(), err)
	}
	n.letGo()
}

// leaf opens and reads a node that is no directory.
func (r *Reader) leaf(b *batch, n *node) error {
	err := n.open()
	if err == errChanged {
		err = r.openMounted(n)
	}
	if err == nil && !n.out {
		err = r.read(b, n)
	}
	if n.fd < 0 {
		return err
	}
	if err != nil || n.out || n.typ != unix.S_IFREG || n.entry.Size <= smallFile || n.known {
		n.close()
	}
	return err
}

// open opens the node and finds out what it is.
func (n *node) open() (err error) {
	if n.fd, err = open(n.in.fd, n.name, n.typ); err != nil {
		return err
	}
	if err = check(n.fd, n.typ, &n.st); err != nil {
		n.close()
	}
	return err
}

// openMounted opens a node whose type is not the one in the listing. If
// something is mounted on it, that is what counts; else somebody changed it.
func (r *Reader) openMounted(n *node) error {
	listed := n.typ
	place, err := open(n.in.fd, n.name, unix.S_IFLNK)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	var st unix.Statx_t
	if err := statx(place, &st); err != nil {
		return err
	}
	n.typ = uint32(st.Mode) & unix.S_IFMT
	if sameMount(&st, &n.in.st) || n.typ == unix.S_IFDIR {
		return errChanged
	}
	// Of what is listed as no file, casync does not look at the mount.
	n.out = !kept(r.flags, n.typ) || listed == unix.S_IFREG && r.flags&feature.ExcludeSubmounts != 0
	if n.out {
		r.count.excluded.Add(1)
		return nil
	}
	return n.open()
}

// read reads the open node n; the bytes of a file too, if they are few.
func (r *Reader) read(b *batch, n *node) (err error) {
	if n.typ != unix.S_IFREG {
		if r.leaveOut[inodeOf(&n.st)] {
			r.count.leftOut.Add(1)
			n.out = true
			return nil
		}
		n.entry, err = r.entry(n.fd, &n.st)
		return err
	}
	if n.out, err = r.leftOut(n.fd, &n.st, &n.in.st); n.out || err != nil {
		return err
	}
	if n.entry, err = r.entry(n.fd, &n.st); err != nil {
		return err
	}
	empty, err := virtual(n.fd, &n.st, n.in)
	if err != nil {
		return err
	}
	if empty {
		n.entry.Size = 0
	}
	if r.known != nil && n.entry.Size > 0 {
		if n.ctime, err = ctimeOf(n.fd, &n.st, n.in); err != nil {
			return err
		}
		f := fileOf(&n.st, n.ctime)
		if n.known = f.Ctime != NoCtime && r.known(f); n.known {
			return nil
		}
	}
	return n.readAhead(b)
}

// entry reads the metadata of fd.
func (r *Reader) entry(fd int, st *unix.Statx_t) (*catar.Entry, error) {
	e, err := r.inodes.Entry(fd, st)
	return e, tell(err)
}

// readAhead reads the bytes of a small file and has the kernel begin with those
// of a large one.
func (n *node) readAhead(b *batch) error {
	size := n.entry.Size
	if size < 0 { // the file system lies
		return fmt.Errorf("its size is %d", size)
	}
	if size > smallFile {
		unix.Fadvise(n.fd, 0, 0, unix.FADV_SEQUENTIAL)
		unix.Fadvise(n.fd, 0, smallFile, unix.FADV_WILLNEED)
		return nil
	}
	n.data = b.room(int(size))
	for at := 0; at < len(n.data); {
		got, err := pread(n.fd, n.data[at:], int64(at))
		if err == io.EOF {
			return shrank(int64(at), size)
		}
		if err != nil {
			return err
		}
		at += got
	}
	return nil
}

// pread reads at least one byte, or says io.EOF.
func pread(fd int, p []byte, off int64) (int, error) {
	n, err := retry(func() (int, error) { return unix.Pread(fd, p, off) })
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// shrank is the error about a file that ends before it should. Its bytes so far
// may be in the stream already, and zeros in place of the rest would be made up.
func shrank(got, size int64) error {
	return fmt.Errorf("changed while it was packed: %d bytes are left of %d", got, size)
}
