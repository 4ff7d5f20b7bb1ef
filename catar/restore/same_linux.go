package restore

import (
	"bytes"
	"hash/maphash"
	"reflect"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// What is in the target already as the archive has it stays there: that saves what the disk
// would have to do, and the blocks and names that it shares with others.

// A former file has the name that a file of the archive is to get, and the metadata.
type former struct {
	fd int

	// as is how many bytes of it are as those of the archive, and what these sum up to: if
	// it is not the whole file they are read once more, for a copy.
	as  int64
	sum maphash.Hash
}

// formerOf opens the node of j's name if it may be the very file; nil: there is none.
func (r *run) formerOf(j *job) *former {
	if j.in.fresh {
		return nil
	}
	fd, ok := r.openSame(j.in.fd, j.name, &j.entry)
	if !ok {
		return nil
	}
	return &former{fd: fd}
}

// openSame opens the node name if that has the metadata of e: a file for reading, all others
// as a place.
func (r *run) openSame(in int, name string, e *catar.Entry) (fd int, ok bool) {
	fd, err := open(in, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, false
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st)
	if err != nil || uint32(st.Mode)&unix.S_IFMT != e.Mode&unix.S_IFMT || e.IsRegular() && int64(st.Size) != e.Size {
		unix.Close(fd)
		return -1, false
	}
	if e.IsRegular() { // now it is known that to open it does nothing
		place := fd
		fd, err = open(unix.AT_FDCWD, procName(place), unix.O_RDONLY|unix.O_NONBLOCK, 0)
		unix.Close(place)
		if err != nil {
			return -1, false
		}
	}
	have, err := r.look.Entry(fd, &st)
	if err != nil || !r.sameEntry(have, e) {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// sameEntry reports whether a node which is as have would not be changed if it was given what
// want says. It may well say no where that is so.
func (r *run) sameEntry(have, want *catar.Entry) bool {
	if r.opt.Shift != nil && want.ACL != nil {
		return false // numbers in it are shifted, too
	}
	a, b := *have, *want
	a.Reduce(r.flags)
	b.Reduce(r.flags)
	if r.flags&(feature.UIDs|feature.UserNames) != 0 && !r.sameOwners(have, want) {
		return false
	}
	if step := int64(r.flags.Granularity()); step != 0 && floor(have.MTime, step) != floor(want.MTime, step) {
		return false
	}
	for _, e := range []*catar.Entry{&a, &b} {
		e.UID, e.GID, e.User, e.Group, e.MTime = 0, 0, "", "", 0
		if len(e.XAttrs) == 0 {
			e.XAttrs = nil
		}
		if len(e.FCaps) == 0 {
			e.FCaps = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

// sameOwners goes by names where these are known here and kept, as the setter does.
func (r *run) sameOwners(have, want *catar.Entry) bool {
	uid, gid, err := r.set.Owners(want)
	return err == nil && uid == have.UID && gid == have.GID
}

// floor rounds down to a multiple of step, below zero as well.
func floor(t, step int64) int64 { return t - (t%step+step)%step }

// matches compares the payload with the former file, as far as they are the same. What was
// taken off the blocks and is not stays with j.
func (f *former) matches(r *run, j *job) (whole bool, err error) {
	if j.whole != nil && !f.next(r, j, *j.whole) {
		return false, nil
	}
	for b := range blocks(j) {
		if !f.next(r, j, *b) {
			j.first = b
			return false, nil
		}
		r.pool.put(b)
	}
	if j.blocks != nil && j.cut {
		return false, errCut
	}
	return f.as == j.entry.Size, nil
}

// next reports whether the file goes on with b.
func (f *former) next(r *run, j *job, b []byte) bool {
	mine := r.pool.get(int64(len(b)))
	defer r.pool.put(mine)
	if !readFull(f.fd, *mine, f.as) || !bytes.Equal(*mine, b) {
		return false
	}
	if j.blocks != nil {
		_, _ = f.sum.Write(b)
	}
	j.digest(b)
	f.as += int64(len(b))
	return true
}

func readFull(fd int, b []byte, off int64) bool {
	for len(b) > 0 {
		var n int
		err := again(func() (err error) { n, err = unix.Pread(fd, b, off); return err })
		if err != nil || n == 0 {
			return false
		}
		b, off = b[n:], off+int64(n)
	}
	return true
}

// copyTo writes what was the same, and makes sure that it is.
func (f *former) copyTo(w *writer, r *run) error {
	var sum maphash.Hash
	sum.SetSeed(f.sum.Seed())
	b := r.pool.get(blockBytes)
	defer r.pool.put(b)
	for off := int64(0); off < f.as; {
		p := (*b)[:min(blockBytes, f.as-off)]
		if !readFull(f.fd, p, off) {
			return errBusy
		}
		_, _ = sum.Write(p)
		if err := w.write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	if sum.Sum64() != f.sum.Sum64() {
		return errBusy
	}
	return nil
}

// keptNode reports whether a node that is no file is there as j has it.
func (r *run) keptNode(j *job) bool {
	if j.in.fresh {
		return false
	}
	fd, ok := r.openSame(j.in.fd, j.name, &j.entry)
	if ok {
		unix.Close(fd)
	}
	return ok
}
