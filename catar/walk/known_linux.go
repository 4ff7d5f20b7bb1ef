package walk

import (
	"io"

	"golang.org/x/sys/unix"

	"caravel/catar/inode"
)

// A Payload is where the bytes of a file lie in the stream.
type Payload struct {
	File
	Off    int64 // of the stream
	Unread bool  // there are zeros in their place

	in   *dir
	name string
}

// Payloads returns the files whose bytes have begun to come since it was asked last, in
// the order of the stream. It is asked between two reads.
func (r *Reader) Payloads() []Payload {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.new
	r.new = nil
	return p
}

// Path is that of the file, from the root on.
func (p *Payload) Path() string { return p.in.below(p.name) }

// ReadAt reads bytes of the file, which must be in the state in which it was found, before
// and after that. It may be called from many goroutines, as long as the Reader is not closed.
func (p *Payload) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.readAt(b, off)
	if err == errGone || err == errChanged {
		err = ErrChanged
	}
	if err != nil {
		return n, errorAt(p.in.path(p.name), err)
	}
	return n, nil
}

func (p *Payload) readAt(b []byte, off int64) (int, error) {
	at, err := p.in.reopen()
	if err != nil {
		return 0, err
	}
	defer unix.Close(at)
	fd, err := open(at, p.name, unix.S_IFREG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := p.same(fd); err != nil {
		return 0, err
	}
	done := 0
	for done < len(b) {
		n, err := pread(fd, b[done:], off+int64(done))
		if err == io.EOF {
			return done, errChanged
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, p.same(fd)
}

// same checks that fd is the file in its state.
func (p *Payload) same(fd int) error {
	var st unix.Statx_t
	if err := check(fd, unix.S_IFREG, &st); err != nil {
		return err
	}
	if fileOf(&st, inode.OwnCtime) != p.File { // of those that have none, there is none to be the same as
		return errChanged
	}
	return nil
}

// reopen opens a directory once more, which the walk has left, from the root on: what is
// put in place of one on the way is not followed out of the tree. The caller closes it.
func (d *dir) reopen() (int, error) {
	if d.up == nil {
		return retry(func() (int, error) { return unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0) })
	}
	up, err := d.up.reopen()
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	return open(up, d.name, unix.S_IFDIR)
}

// fileOf is the state of a file on a file system whose times of change are worth c.
func fileOf(st *unix.Statx_t, c inode.Ctime) File {
	f := File{
		Inode: inodeOf(st),
		Size:  int64(st.Size),
		Mtime: nanoseconds(st.Mtime),
		Ctime: nanoseconds(st.Ctime),
	}
	if c == inode.NoCtime || c == inode.SomeCtime && f.Ctime == f.Mtime {
		f.Ctime = NoCtime
	}
	return f
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
