package restore

import (
	"crypto/sha256"
	"encoding/gob"
	"hash"
	"sync"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// links are the files of this run, by what the archive says of them and what is in them: of
// equal ones there need be one. It remembers so many that its memory stays within some 50 MB;
// behind them no more are linked but to these.
type links struct {
	mu    sync.Mutex // guards what follows
	known map[[16]byte]linkable
	paths int // bytes of theirs
}

const (
	maxLinks     = 1 << 18
	maxLinkPaths = 32 << 20
)

// A linkable is a file of the target.
type linkable struct {
	path     string // from the outermost directory
	dev, ino uint64
}

// identity begins the sum of a file: of all that the archive says of it but its name. nil:
// it is not one to be linked, as one that is immutable or has no bytes.
func (r *run) identity(e *catar.Entry) hash.Hash {
	if !r.opt.HardLink || e.Size == 0 || e.Flags&(feature.Append|feature.Immutable) != 0 {
		return nil
	}
	sum := sha256.New()
	if err := gob.NewEncoder(sum).Encode(e); err != nil {
		return nil
	}
	return sum
}

// digest goes on with the sum of j.
func (j *job) digest(b []byte) {
	if j.sum != nil {
		j.sum.Write(b)
	}
}

// key is the sum at the end.
func (j *job) key() (key [16]byte) {
	copy(key[:], j.sum.Sum(nil))
	return key
}

// rememberFile notes the file fd, which has j's name now.
func (r *run) rememberFile(j *job, fd int) {
	if j.sum == nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return
	}
	path := j.in.path(j.name)
	r.links.mu.Lock()
	defer r.links.mu.Unlock()
	if _, ok := r.links.known[j.key()]; ok || len(r.links.known) >= maxLinks || r.links.paths+len(path) > maxLinkPaths {
		return
	}
	r.links.known[j.key()] = linkable{path, uint64(st.Dev), st.Ino}
	r.links.paths += len(path)
}

// link gives j's name to an equal file, if there is one and the file system does that.
func (r *run) link(j *job) bool {
	if j.sum == nil {
		return false
	}
	r.links.mu.Lock()
	to, ok := r.links.known[j.key()]
	r.links.mu.Unlock()
	if !ok {
		return false
	}
	fd, err := r.openBelow(to.path)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || uint64(st.Dev) != to.dev || st.Ino != to.ino {
		return false
	}
	return r.linkTo(j, fd) == nil
}

// openBelow opens what this run has made, or found right, as a place.
func (r *run) openBelow(path string) (fd int, err error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	err = again(func() (err error) {
		fd, err = unix.Openat2(r.top.fd, path, how)
		return err
	})
	return fd, err
}

// linkTo gives the file fd j's name, in the place of whatever has it.
func (r *run) linkTo(j *job, fd int) error {
	var former, now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if unix.Fstatat(j.in.fd, j.name, &former, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		former.Dev == now.Dev && former.Ino == now.Ino {
		return nil
	}
	j.in.claim()
	for range tries {
		name := newPart()
		err := linkByProc(fd, j.in.fd, name)
		if err == unix.EEXIST {
			continue
		}
		if err == nil {
			err = r.move(j.in, name, j.name)
		}
		_ = unlink(j.in.fd, name, 0) // to rename a file to another name of its own leaves both
		return err
	}
	return errBusy
}
