package inode

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

// A Setter sets what entries say. Its methods may be called from many
// goroutines.
//
// An entry may say more than the flags keep: what they do not have is not set.
// Of the mode only what they say is set: all of it, or with ReadOnly whether it
// may be written to.
type Setter struct {
	// Log hears, once each, of names that are not known here. nil: nobody
	// does. It does not change after the first call.
	Log *slog.Logger

	// Shift, if set, says which number here an archive's user or group has: whatever the
	// names say that go with it. It does not change after the first call.
	Shift func(id uint32) uint32

	flags    feature.Flags
	names    names
	systems  filesystems
	labelled func() bool
	unknown  sync.Map // names that Log has heard of
}

// NewSetter returns a Setter of what the flags f keep.
func NewSetter(f feature.Flags) *Setter {
	return &Setter{
		flags:    f,
		names:    newNames("/etc/passwd", "/etc/group"),
		labelled: sync.OnceValue(labelled),
	}
}

// Prepare sets what has to be there before a file or directory gets its
// content: nocow, compression, nocomp, the quota project.
func (s *Setter) Prepare(fd int, e *catar.Entry) error {
	project := e.ProjID != 0 && s.flags&feature.QuotaProjID != 0
	if s.flags&early == 0 && !project {
		return nil
	}
	w, err := s.begin(fd)
	if err != nil || !w.opened() {
		return err
	}
	if e.Flags&early != 0 || w.fs.inheritsEarly() {
		w.chattr(e.Flags, s.flags&early)
	}
	if project {
		w.project(e.ProjID)
	}
	return w.err
}

// Inherits reports whether what is made in the directory dir may get flags of it that Prepare
// takes away. If not, Prepare has nothing to do there for an entry that is not [Early].
func (s *Setter) Inherits(dir int) (bool, error) {
	w, err := s.begin(dir)
	return err == nil && w.fs.inheritsEarly(), err
}

// Early reports whether e has what Prepare sets.
func Early(e *catar.Entry) bool { return e.Flags&early != 0 || e.ProjID != 0 }

// Set gives the node that fd is open on (as for [Reader.Entry]) what e says:
// owners first, then the user's attributes, ACLs and mode, labels and
// capabilities, flags, the time last. On the way nobody gets rights that he does
// not keep. A directory has its children by then. What forbids to give the node
// its name afterwards is left to Seal.
//
// If something may not or cannot be set here, the others are set nevertheless;
// the error, a *RefusedError, names the first with the feature to leave out, and
// has the others.
//
// Set-user-id and set-group-id of a file are set only if it has the very owner
// and group that e says: somebody else's program must not get the rights of
// whoever restores it. If owners are not restored that is no error.
func (s *Setter) Set(fd int, e *catar.Entry) error {
	w, err := s.begin(fd)
	if err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT != w.typ {
		return fmt.Errorf("inode: a node of type %#o for an entry of type %#o", w.typ, e.Mode&unix.S_IFMT)
	}
	mode := w.owner(e)
	has, f := w.has()
	if f&feature.XAttrs != 0 {
		w.plainXAttrs("user.", e.XAttrs, has.plain) // the mode may forbid it to the owner
	}
	if w.typ != unix.S_IFLNK {
		if f&feature.ACL != 0 {
			mode = w.acls(e, has, mode)
		}
		w.mode(e, mode)
	}
	w.extended(e, has, f)
	if w.opened() {
		w.chattr(e.Flags&^sealing, s.flags&feature.Chattr)
		w.fat(e.Flags)
		w.project(e.ProjID)
		w.subvolume(e.Flags)
	}
	w.time(e.MTime)
	return w.err
}

// Seal sets what makes the node immutable: chattr's +i and +a, and that
// a subvolume is read-only. It is for the end, when the node has its name. For
// entries without these flags nothing is done.
func (s *Setter) Seal(fd int, e *catar.Entry) error {
	want := e.Flags & s.flags & (sealing | feature.SubvolumeRO)
	if want == 0 {
		return nil
	}
	w, err := s.begin(fd)
	if err != nil || !w.opened() {
		return err
	}
	w.chattr(want, want&sealing)
	if want&feature.SubvolumeRO != 0 {
		w.readOnly()
	}
	return w.err
}

// A setting is the work on one node.
type setting struct {
	node
	s   *Setter
	st  unix.Statx_t // as it was found; owner and mode as they are now
	err error        // the first, with all others
}

func (s *Setter) begin(fd int) (w *setting, err error) {
	w = &setting{s: s}
	if err := statx(fd, &w.st); err != nil {
		return nil, fmt.Errorf("inode: stat: %w", err)
	}
	if w.node, err = newNode(fd, &w.st, &s.systems); err != nil {
		return nil, fmt.Errorf("inode: %w", err)
	}
	return w, nil
}

func statx(fd int, st *unix.Statx_t) error {
	_, err := retry(func() (int, error) {
		return 0, unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, st)
	})
	return err
}

// refused takes note of what could not be set, if err says so.
func (w *setting) refused(f feature.Flags, err error, what string, args ...any) {
	if err == nil {
		return
	}
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) {
		f = 0 // it is not this feature's fault
	}
	e := &RefusedError{Feature: f, What: fmt.Sprintf(what, args...), Err: err}
	if first, ok := w.err.(*RefusedError); ok {
		first.More = append(first.More, e)
		return
	}
	w.err = e
}

// time sets the time of the last change.
func (w *setting) time(want int64) {
	step := w.s.flags.Granularity()
	if step == 0 {
		return
	}
	if have, err := nanoseconds(w.st.Mtime); err == nil && have == want {
		return
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(want)}
	if err := w.utimes(ts); err != nil {
		w.refused(feature.Times, err, "time %s", clock(want))
		return
	}
	if !w.doubtful(want) {
		return
	}
	if err := statx(w.fd, &w.st); err != nil {
		w.refused(0, err, "time %s", clock(want))
		return
	}
	kept, err := nanoseconds(w.st.Mtime)
	if err == nil && floor(kept, int64(step)) != floor(want, int64(step)) {
		err = fmt.Errorf("the file system made it %s", clock(kept))
	}
	if err == nil && want%10 != 0 {
		w.fs.exact.Store(true)
	}
	w.refused(tooFine(want, kept), err, "time %s", clock(want))
}

func (w *setting) utimes(ts []unix.Timespec) error {
	_, err := retry(func() (int, error) { return 0, unix.UtimesNanoAt(w.fd, "", ts, unix.AT_EMPTY_PATH) })
	if err == unix.EINVAL || err == unix.ENOENT { // kernels before 5.8
		path := fmt.Sprintf("/proc/self/fd/%d", w.fd)
		_, err = retry(func() (int, error) { return 0, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0) })
	}
	return err
}

// doubtful reports whether a file system may have kept another time than it was
// given, silently: some have steps of a second or two, or an end in 2038.
func (w *setting) doubtful(want int64) bool {
	const second = int64(time.Second)
	switch {
	case want < 0 || want/second > math.MaxInt32:
		return true
	case want%second == 0 && w.fs.native():
		return false
	}
	return !w.fs.exact.Load()
}

// tooFine are the granularities that a file system does not have which made
// kept of want.
func tooFine(want, kept int64) feature.Flags {
	f := feature.Flags(feature.NanoTime)
	for _, coarser := range []feature.Flags{feature.MicroTime, feature.SecTime, feature.TwoSecTime} {
		if step := int64(coarser.Granularity()); floor(want, step) == floor(kept, step) {
			return f
		}
		f |= coarser
	}
	return f
}

// floor rounds down, below zero as well.
func floor(t, step int64) int64 {
	if r := t % step; r < 0 {
		return t - r - step
	} else {
		return t - r
	}
}

func clock(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
