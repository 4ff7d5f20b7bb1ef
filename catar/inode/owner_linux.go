package inode

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/feature"
)

const setID = unix.S_ISUID | unix.S_ISGID

var (
	errUnknownName = errors.New("not known on this machine, and the archive has no number")
	errIgnored     = errors.New("the system left it as it was")
	errBadID       = errors.New("not an id")
)

// owner sets owner and group, and returns the mode that the node may have then.
func (w *setting) owner(e *catar.Entry) (mode uint32) {
	uid, uidErr := w.s.user(e)
	gid, gidErr := w.s.group(e)
	if w.s.flags&owners != 0 {
		w.refused(owners, uidErr, "owner %q", e.User)
		w.refused(owners, gidErr, "group %q", e.Group)
		if uidErr == nil && gidErr == nil && (w.st.Uid != uid || w.st.Gid != gid) {
			w.chown(uid, gid)
		}
	}
	mode = e.Mode & 0o7777
	if w.typ == unix.S_IFDIR {
		return mode // there it only says which group new children get
	}
	if uidErr != nil || w.st.Uid != uid {
		mode &^= unix.S_ISUID
	}
	if gidErr != nil || w.st.Gid != gid {
		mode &^= unix.S_ISGID
	}
	return mode
}

const owners = feature.UIDs | feature.UserNames

func (w *setting) chown(uid, gid uint32) {
	_, err := retry(func() (int, error) {
		return 0, unix.Fchownat(w.fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
	})
	if err != nil {
		w.refused(owners, err, "owner %d:%d", uid, gid)
		return
	}
	// The kernel has taken these away.
	w.st.Uid, w.st.Gid = uid, gid
	w.st.Mode &^= setID
}

func (s *Setter) user(e *catar.Entry) (uint32, error) {
	return s.idOf(e.User, e.UID, "user", s.names.users)
}

func (s *Setter) group(e *catar.Entry) (uint32, error) {
	return s.idOf(e.Group, e.GID, "group", s.names.groups)
}

// Owners are the numbers that Set gives e's owner and group here.
func (s *Setter) Owners(e *catar.Entry) (uid, gid uint32, err error) {
	if uid, err = s.user(e); err == nil {
		gid, err = s.group(e)
	}
	return uid, gid, err
}

// idOf is the number of a user or group here: that of its name, if it has one.
// A name that is not known here goes by the archive's number, if it has one.
func (s *Setter) idOf(name string, id uint32, kind string, who func() (*roll, error)) (uint32, error) {
	if s.Shift != nil && (s.flags&feature.UIDs != 0 || name == "") {
		return s.Shift(id), nil
	}
	id, err := s.unshifted(name, id, kind, who)
	if err == nil && s.Shift != nil {
		id = s.Shift(id)
	}
	return id, err
}

// unshifted is what a user or group is before Shift.
func (s *Setter) unshifted(name string, id uint32, kind string, who func() (*roll, error)) (uint32, error) {
	if s.flags&feature.UserNames != 0 && name != "" {
		if known, ok, err := numberOf(name, who); ok || err != nil {
			return known, err
		}
		if s.flags&feature.UIDs == 0 && id == 0 {
			// 0 would be root.
			return 0, errUnknownName
		}
		if _, told := s.unknown.LoadOrStore(kind+name, true); !told && s.Log != nil {
			s.Log.Warn("not known on this machine, its number is used", kind, name, "id", id)
		}
	}
	if id == noID {
		return 0, errBadID // to chown(2) it means: as it is
	}
	return id, nil
}

// mode sets the permissions: mode with Permissions, else what e's mode says of
// writing.
func (w *setting) mode(e *catar.Entry, mode uint32) {
	have := uint32(w.st.Mode) & 0o7777
	switch {
	case w.s.flags&(feature.Permissions|feature.ACL) != 0:
	case w.s.flags&feature.ReadOnly == 0:
		return
	case e.Mode&0o222 == 0:
		mode = have &^ 0o222
	case have&0o200 == 0:
		mode = have | 0o200 | have&0o044>>1 // for those who may read
	default:
		return
	}
	if mode == have {
		return
	}
	const permissions = feature.Permissions | feature.ACL
	kept := w.s.flags & (permissions | feature.ReadOnly)
	if kept&permissions != 0 {
		kept = permissions // each says what the other does
	}
	if err := w.chmod(mode); err != nil {
		w.refused(kept, err, "mode %04o", mode)
		return
	}
	w.st.Mode = w.st.Mode&^0o7777 | uint16(mode)
	if w.fs.native() && mode&setID == 0 {
		return
	}
	// The last word on set-group-id, and on FAT on everything, is the system's.
	if err := statx(w.fd, &w.st); err != nil {
		w.refused(0, err, "mode %04o", mode)
	} else if got := uint32(w.st.Mode) & 0o7777; got != mode && !(kept == feature.ReadOnly && (got^mode)&0o200 == 0) {
		w.refused(kept, fmt.Errorf("%w, %04o", errIgnored, got), "mode %04o", mode)
	}
}

func (w *setting) chmod(mode uint32) error {
	_, err := retry(func() (int, error) {
		if w.path != "" {
			return 0, unix.Chmod(w.path, mode)
		}
		return 0, unix.Fchmod(w.fd, mode)
	})
	return err
}
