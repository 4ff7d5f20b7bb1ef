package index

import "caravel/chunker"

// Flags are the feature flags of an index file. For a blob only the digest bit
// carries a meaning; docs/formats.md, sections 4.3 and 4.4, has the others.
type Flags uint64

// The four bits that say how an image was made. Those below say what is kept of
// each entry of an archive.
const (
	ExcludeFile     Flags = 1 << 60
	FlagSHA512_256  Flags = 1 << 61
	ExcludeSubmount Flags = 1 << 62
	ExcludeNodump   Flags = 1 << 63
)

// The bits that the rules of normalization name.
const (
	uids16      Flags = 1 << 0
	uids32      Flags = 1 << 1
	userNames   Flags = 1 << 2
	timeSec     Flags = 1 << 3
	timeMicro   Flags = 1 << 4
	timeNano    Flags = 1 << 5
	timeTwoSec  Flags = 1 << 6
	readOnly    Flags = 1 << 7
	permissions Flags = 1 << 8
	nodump      Flags = 1 << 20
	subvolume   Flags = 1 << 26
	subvolumeRO Flags = 1 << 27
	acl         Flags = 1 << 29

	entryFlags = 1<<33 - 1 // all bits that say something of an archive's entries
	knownFlags = entryFlags | ExcludeFile | FlagSHA512_256 | ExcludeSubmount | ExcludeNodump
)

// BlobFlags are what casync writes into the index of a blob made with d.
func BlobFlags(d chunker.Digest) Flags {
	f := ExcludeNodump | ExcludeFile
	if d == chunker.SHA512_256 {
		f |= FlagSHA512_256
	}
	return f
}

// Digest is the algorithm that the flags name.
func (f Flags) Digest() chunker.Digest {
	if f&FlagSHA512_256 != 0 {
		return chunker.SHA512_256
	}
	return chunker.SHA256
}

// normal returns f without what another of its bits makes superfluous, and with
// what another one needs. Files hold normal flags only.
func (f Flags) normal() Flags {
	if f&acl != 0 && f&(uids16|uids32|userNames) == 0 {
		f |= uids32 | userNames
	}
	if f&subvolumeRO != 0 {
		f |= subvolume
	}
	for _, rule := range []struct{ has, drop Flags }{
		{uids32, uids16},
		{timeNano, timeMicro | timeSec | timeTwoSec},
		{timeMicro, timeSec | timeTwoSec},
		{timeSec, timeTwoSec},
		{acl, permissions | readOnly},
		{permissions, readOnly},
		{ExcludeNodump, nodump},
	} {
		if f&rule.has != 0 {
			f &^= rule.drop
		}
	}
	return f
}
