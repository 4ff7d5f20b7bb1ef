package restore

import (
	"crypto/sha256"
	"encoding/hex"

	"golang.org/x/sys/unix"

	"caravel/feature"
)

// A file so long has a name while it is written, which tells whose part it is: a killed or
// failed run leaves it, and the next one keeps what is right of it.
const longBytes = 8 << 20

// What such a file is called: .#caravel.0123456789abcdef.file, the digits from its final name.
const longSuffix = ".file"

func longPart(name string) string {
	sum := sha256.Sum256([]byte(name))
	return partPrefix + hex.EncodeToString(sum[:8]) + longSuffix
}

// isLong reports whether j is written under such a name. Flags that only an empty file takes
// forbid it.
func isLong(j *job) bool {
	return j.entry.Size >= longBytes && j.entry.Flags&(feature.Compr|feature.NoCOW|feature.NoComp) == 0
}

// newLong makes the file for j, or opens that of a former run; nil: another run is at it, or
// it is not to be trusted.
func (r *run) newLong(j *job) *part {
	name := longPart(j.name)
	fd, err := open(j.in.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK, r.fileMode())
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != r.user || st.Nlink != 1 ||
		unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || !isNamed(j.in.fd, name, &st) {
		unix.Close(fd)
		return nil
	}
	return &part{in: j.in, fd: fd, name: name, long: true, had: st.Size}
}

// isNamed reports whether the file st has the name still: another run may have just finished it.
func isNamed(in int, name string, st *unix.Stat_t) bool {
	var now unix.Stat_t
	return unix.Fstatat(in, name, &now, unix.AT_SYMLINK_NOFOLLOW) == nil && now.Dev == st.Dev && now.Ino == st.Ino
}

// keepLong reports whether there is enough in a long file to leave it to the next run.
func keepLong(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Size >= wholeBytes
}

// sweepLong removes those long files of a directory that nobody has gone on with, once all in
// it is done.
func (r *run) sweepLong(d *dir) {
	for _, name := range d.long {
		fd, err := open(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil { // a link, say: we make none of this name
			_ = unlink(d.fd, name, 0)
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = unlink(d.fd, name, 0)
		}
		unix.Close(fd)
	}
}
