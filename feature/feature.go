// Package feature has the feature flags: one 64-bit field that says what an
// archive keeps of each entry, and how it was made. It stands in every entry of
// an archive and in the header of every index.
//
// The table below is docs/formats.md, section 4.3, once: bits, names and
// groups. Flags in a file are normal (see [Flags.Normal]): two archives of one
// tree are equal only if their flags are.
//
//	with, err := feature.Parse("unix")
//	flags := (with | feature.SHA512_256 | feature.ExcludeNoDump).Normal()
package feature

import (
	"fmt"
	"strings"
	"time"

	"caravel/chunker"
)

// Flags is a set of features.
type Flags uint64

// What is kept of each entry.
const (
	UID16       Flags = 1 << iota // owners as numbers up to 65535
	UID32                         // owners as numbers
	UserNames                     // owners by name
	SecTime                       // times in seconds
	MicroTime                     // times in microseconds
	NanoTime                      // times in nanoseconds
	TwoSecTime                    // times in steps of two seconds, as FAT has them
	ReadOnly                      // of the permissions, whether all writing is forbidden
	Permissions                   // the 07777 bits of the mode
	Symlinks
	DeviceNodes
	FIFOs
	Sockets
	Hidden      // FAT
	System      // FAT
	ArchiveFlag // FAT
	Append      // from here on chattr's
	NoAtime
	Compr
	NoCOW
	NoDump
	DirSync
	Immutable
	Sync
	NoComp
	ProjInherit
	Subvolume   // btrfs
	SubvolumeRO // btrfs
	XAttrs
	ACL
	SELinux
	FCaps
	QuotaProjID
)

// How the image was made.
const (
	ExcludeFile      Flags = 1 << 60 // .caexclude was honoured
	SHA512_256       Flags = 1 << 61 // the digest is SHA-512/256; else SHA-256
	ExcludeSubmounts Flags = 1 << 62 // other mounts were left out
	ExcludeNoDump    Flags = 1 << 63 // what has chattr's +d was left out
)

// Groups of features.
const (
	All    Flags = 1<<33 - 1 // all that says something of an entry
	making       = ExcludeFile | SHA512_256 | ExcludeSubmounts | ExcludeNoDump

	// UIDs and Times are the widths and the granularities that exclude one
	// another.
	UIDs  = UID16 | UID32
	Times = SecTime | MicroTime | NanoTime | TwoSecTime

	// FAT and Chattr are the attributes of files that the field Flags of an
	// entry holds, by where they come from.
	FATAttrs = Hidden | System | ArchiveFlag
	Chattr   = Append | NoAtime | Compr | NoCOW | NoDump | DirSync | Immutable | Sync | NoComp | ProjInherit

	Best = UID32 | UserNames | NanoTime | Symlinks | DeviceNodes | FIFOs | Sockets | FATAttrs | Chattr |
		Subvolume | SubvolumeRO | XAttrs | ACL | SELinux | FCaps | QuotaProjID
	Unix = UID16 | Permissions | SecTime | Symlinks | DeviceNodes | FIFOs | Sockets
	FAT  = FATAttrs | TwoSecTime | ReadOnly
	// Privileged is what takes rights to restore.
	Privileged = UIDs | UserNames | DeviceNodes | System | Append | Immutable | Subvolume | SubvolumeRO |
		ACL | SELinux | FCaps | QuotaProjID
	// FUSE is what casync's mount shows.
	FUSE = UIDs | Times | ReadOnly | Permissions | Symlinks | DeviceNodes | FIFOs | Sockets | FATAttrs | Chattr | XAttrs

	// Desync is the field in every archive of desync's, and in none of
	// casync's unless somebody wants it so; docs/formats.md, section 8.
	Desync = UID32 | NanoTime | Permissions | Symlinks | DeviceNodes | FIFOs | Sockets | XAttrs |
		SHA512_256 | ExcludeNoDump | ExcludeFile
)

// names are casync's, in the order of the bits.
var names = [...]string{
	"16bit-uids", "32bit-uids", "user-names", "sec-time", "usec-time", "nsec-time", "2sec-time", "read-only",
	"permissions", "symlinks", "device-nodes", "fifos", "sockets", "flag-hidden", "flag-system", "flag-archive",
	"flag-append", "flag-noatime", "flag-compr", "flag-nocow", "flag-nodump", "flag-dirsync", "flag-immutable",
	"flag-sync", "flag-nocomp", "flag-projinherit", "subvolume", "subvolume-ro", "xattrs", "acl", "selinux", "fcaps",
	"quota-projid",
}

var groups = [...]struct {
	name  string
	flags Flags
}{
	{"all", All}, {"best", Best}, {"unix", Unix}, {"fat", FAT}, {"chattr", Chattr}, {"fat-attrs", FATAttrs},
	{"privileged", Privileged}, {"fuse", FUSE},
}

// Names lists what Parse knows: the features in the order of their bits, then
// the groups.
func Names() []string {
	all := append([]string(nil), names[:]...)
	for _, g := range groups {
		all = append(all, g.name)
	}
	return all
}

// Parse reads the name of a feature or a group, as --with and --without take it.
func Parse(name string) (Flags, error) {
	for i, n := range names {
		if n == name {
			return 1 << i, nil
		}
	}
	for _, g := range groups {
		if g.name == name {
			return g.flags, nil
		}
	}
	return 0, fmt.Errorf("feature: no feature %q; there are %s", name, strings.Join(Names(), ", "))
}

// String names the features that say something of an entry, joined by commas.
func (f Flags) String() string {
	var has []string
	for i, n := range names {
		if f&(1<<i) != 0 {
			has = append(has, n)
		}
	}
	return strings.Join(has, ",")
}

// Blob is what casync writes into the index of a blob made with d.
func Blob(d chunker.Digest) Flags { return ExcludeNoDump | ExcludeFile | Of(d) }

// Of is the bit of a digest.
func Of(d chunker.Digest) Flags {
	if d == chunker.SHA512_256 {
		return SHA512_256
	}
	return 0
}

// Digest is the algorithm that the flags name.
func (f Flags) Digest() chunker.Digest {
	if f&SHA512_256 != 0 {
		return chunker.SHA512_256
	}
	return chunker.SHA256
}

// Check refuses unknown bits and flags that are not normal, as casync does.
func (f Flags) Check() error {
	if unknown := f &^ (All | making); unknown != 0 {
		return fmt.Errorf("flags %#x: unknown bits %#x", uint64(f), uint64(unknown))
	}
	if n := f.Normal(); n != f {
		return fmt.Errorf("flags %#x: not normalized, which would be %#x", uint64(f), uint64(n))
	}
	return nil
}

// Normal returns f without what another of its bits makes superfluous, and with
// what another one needs (docs/formats.md, section 4.4). Files hold normal
// flags only.
func (f Flags) Normal() Flags {
	if f&ACL != 0 && f&(UIDs|UserNames) == 0 {
		f |= UID32 | UserNames
	}
	if f&SubvolumeRO != 0 {
		f |= Subvolume
	}
	for _, rule := range []struct{ has, drop Flags }{
		{UID32, UID16},
		{NanoTime, MicroTime | SecTime | TwoSecTime},
		{MicroTime, SecTime | TwoSecTime},
		{SecTime, TwoSecTime},
		{ACL, Permissions | ReadOnly},
		{Permissions, ReadOnly},
		{ExcludeNoDump, NoDump},
	} {
		if f&rule.has != 0 {
			f &^= rule.drop
		}
	}
	return f
}

// Wide returns f with all that it is able to say in another form: flags that
// are wide can be masked with what a user wants of them.
func (f Flags) Wide() Flags {
	if f&UIDs != 0 {
		f |= UIDs
	}
	if f&Times != 0 {
		f |= Times
	}
	if f&ACL != 0 {
		f |= Permissions
	}
	if f&Permissions != 0 {
		f |= ReadOnly
	}
	if f&SubvolumeRO != 0 {
		f |= Subvolume
	}
	return f
}

// Masked is what is restored of an archive with flags f for a user who wants
// mask and no more.
func (f Flags) Masked(mask Flags) Flags { return (f.Wide() & mask).Normal() }

// Granularity is the step in which times are kept; 0: there are none.
func (f Flags) Granularity() time.Duration {
	switch {
	case f&NanoTime != 0:
		return time.Nanosecond
	case f&MicroTime != 0:
		return time.Microsecond
	case f&SecTime != 0:
		return time.Second
	case f&TwoSecTime != 0:
		return 2 * time.Second
	}
	return 0
}
