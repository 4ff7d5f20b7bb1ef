package inode

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

var errNoSubvolume = errors.New("not a subvolume of btrfs")

// chattr makes of chattr's flags those in mask what want says.
func (w *setting) chattr(want, mask feature.Flags) {
	w.bits(chattr[:], want, mask, unix.FS_IOC_SETFLAGS, w.flagsOf)
}

// fat does so with FAT's attributes.
func (w *setting) fat(want feature.Flags) {
	w.bits(fat[:], want, w.s.flags&feature.FATAttrs, setFAT, w.fatOf)
}

// bits makes of some bits those in mask what want says, as far as possible.
func (w *setting) bits(all []bit, want, mask feature.Flags, set uintptr, get func() (uint32, error)) {
	want &= mask
	changed := toKernel(all, mask)
	if changed == 0 {
		return
	}
	have, err := get()
	if err != nil {
		w.refused(mask, err, "reading its flags")
		return
	}
	now := have&^changed | toKernel(all, want)
	if now == have {
		return
	}
	if w.set32(set, now) != nil && !w.inSteps(set, have, now) {
		if left, err := get(); err == nil {
			w.oneByOne(all, want, set, left, now)
		}
		return
	}
	// Some file systems ignore what they do not know.
	if have, err = get(); err == nil {
		if missing := want &^ fromKernel(all, have); missing != 0 {
			w.refused(missing, errIgnored, "%s", missing)
		}
	}
}

// inSteps takes flags away before it gives others: btrfs does not compress what
// just was nocow.
func (w *setting) inSteps(set uintptr, have, now uint32) bool {
	return have&now != have && w.set32(set, have&now) == nil && w.set32(set, now) == nil
}

// oneByOne changes what can be changed when not all can.
func (w *setting) oneByOne(all []bit, want feature.Flags, set uintptr, have, now uint32) {
	for _, b := range all {
		if (now^have)&b.kernel == 0 {
			continue
		}
		err := w.set32(set, have^b.kernel)
		if err == nil {
			have ^= b.kernel
		} else if want&b.feature != 0 || !unsupported(err) {
			w.refused(b.feature, err, "%s", b.feature)
		}
	}
}

func (w *setting) set32(number uintptr, v uint32) error {
	return ioctl(w.fd, number, unsafe.Pointer(&v))
}

// project puts the node into a quota project.
func (w *setting) project(want uint32) {
	if w.s.flags&feature.QuotaProjID == 0 {
		return
	}
	have, err := w.projectOf()
	if err != nil || have == want {
		w.refused(feature.QuotaProjID, err, "quota project %d", want)
		return
	}
	var x fsxattr
	if err = ioctl(w.fd, getProject, unsafe.Pointer(&x)); err == nil {
		x.project = want
		err = ioctl(w.fd, setProject, unsafe.Pointer(&x))
	}
	w.refused(feature.QuotaProjID, err, "quota project %d", want)
}

// subvolume refuses what would have had to be made as a subvolume.
func (w *setting) subvolume(want feature.Flags) {
	if want&w.s.flags&feature.Subvolume == 0 {
		return
	}
	have, err := w.subvolumeOf()
	if err == nil && have == 0 {
		err = errNoSubvolume
	}
	w.refused(feature.Subvolume|feature.SubvolumeRO, err, "subvolume")
}

// readOnly forbids all writing to a subvolume.
func (w *setting) readOnly() {
	have, err := w.subvolumeOf()
	if err == nil && have == feature.Subvolume {
		var v uint64
		if err = ioctl(w.fd, getSubvolume, unsafe.Pointer(&v)); err == nil {
			v |= subvolumeReadOnly
			err = ioctl(w.fd, setSubvolume, unsafe.Pointer(&v))
		}
	}
	w.refused(feature.SubvolumeRO, err, "read-only subvolume")
}

// MakeSubvolume makes the child name of the directory dirfd, as a subvolume of
// btrfs, with the permissions that mkdir(2) would give for 0777. Elsewhere the
// error matches [errors.ErrUnsupported].
func MakeSubvolume(dirfd int, name string) error {
	var args volArgs
	if len(name) >= len(args.name) {
		return unix.ENAMETOOLONG
	}
	copy(args.name[:], name)
	err := ioctl(dirfd, makeSubvolume, unsafe.Pointer(&args))
	if err == unix.ENOTTY {
		return unix.EOPNOTSUPP
	}
	return err
}
