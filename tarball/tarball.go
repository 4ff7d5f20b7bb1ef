// Package tarball turns tar streams into the entries of an archive, and archives
// into tar streams.
//
// A [Reader] stands on archive/tar, which knows the headers of all of tar's
// dialects, and makes of each the [Member] that casync's archives would have of
// the node: what is in the records of PAX headers (extended attributes of GNU tar
// and star, SCHILY.xattr, and of bsdtar, LIBARCHIVE.xattr; access control lists as
// text and as the kernel has them; labels, capabilities, chattr's flags) becomes
// the fields of a [catar.Entry], and what of a member has no place there is listed.
//
//	r := tarball.NewReader(file, tarball.ReaderOptions{})
//	for {
//		m, err := r.Next() // m.Name, m.Mode, m.Lost …; r has the file's bytes
//		…
//	}
//
// [Write] writes what a decoder of an archive gives as one stream of POSIX's pax
// format, of which GNU tar, bsdtar and all others read what they know: also that
// of files with long runs of zeros (GNU.sparse 1.0), which archive/tar does not
// write.
//
// A name is what the stream says: a Reader neither cleans it nor refuses any.
// That is up to the room that puts the nodes somewhere.
//
// # Faults
//
// A stream that breaks off is an error wherever that shows, and [Reader.Cut] tells
// of one that merely has no end mark: half of a stream, or one of a program that
// did not close it. Headers are refused as archive/tar does: their records have
// 1 MiB at most. Times, owners and devices that an archive has no room for are
// reasons not to take a member ([Member.Refused]), and never cut down to another
// value.
package tarball
