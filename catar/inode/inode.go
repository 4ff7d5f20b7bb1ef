// Package inode reads and sets the metadata of a node of the file system by its
// descriptor, in the terms of an archive's entry: what stat(2) says, names of
// owners, ACLs, extended attributes, capabilities, SELinux labels, chattr's and
// FAT's flags, btrfs subvolumes and quota projects (docs/formats.md, sections
// 4.5 and 4.6).
//
//	entry, err := inode.NewReader(flags).Entry(fd, &st)
//	…
//	err = inode.NewSetter(flags).Set(copyfd, entry)
//
// Nothing is done by a name, so no link is ever followed. Regular files and
// directories come open, all others with O_PATH; of those, ACLs, labels and
// modes are reached by way of /proc/self/fd, which must be there then.
//
// # Owners
//
// Names are looked up in /etc/passwd and /etc/group, which are read once. Other
// sources that a C library would ask (LDAP, sssd, systemd's users that exist
// only while a service runs) are not: their owners are kept as numbers. If an
// archive keeps no numbers, an owner without a name is refused, because no
// reader takes such an archive; casync writes it.
//
// # System calls
//
// A plain file costs three to read with all features: one list of attributes
// (it tells whether there are ACLs, capabilities, labels and attributes), its
// flags, its project; and about six to set, four of which only look. What the
// file system of a device does not know it is asked once.
package inode

import (
	"errors"
	"io/fs"
	"strings"

	"caravel/feature"
)

// A RefusedError says what of an entry could not be set.
type RefusedError struct {
	Feature feature.Flags // what would have to be left out
	What    string        // for people: "owner 0:0"
	Err     error

	More []*RefusedError // what else of the same entry; these have no More
}

func (e *RefusedError) Error() string {
	text := "inode: " + e.What + ": " + e.Err.Error()
	if hint := e.hint(); hint != "" {
		text += "; leave it out with " + hint
	}
	return text
}

func (e *RefusedError) Unwrap() error { return e.Err }

// hint is the option that would have helped. Somebody without rights will run
// into the next privileged thing at once, so is told to leave out all of them.
func (e *RefusedError) hint() string {
	switch {
	case e.Feature == 0:
		return ""
	case errors.Is(e.Err, fs.ErrPermission) && e.Feature&^feature.Privileged == 0:
		return "--without=privileged"
	}
	return "--without=" + strings.ReplaceAll(e.Feature.String(), ",", " --without=")
}
