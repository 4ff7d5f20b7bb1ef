package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const identityPrefix = "caravel:"

// identity is what tells the disk behind a device from others, for whoever goes on
// with it: below what is mounted the same bytes have to stay. It is the image's, or
// with an overlay, which is there already, a digest of that and of which file this
// is: where it lies, links followed, its inode and when that was born, as one that is
// begun anew under the same name is another disk, though it may be given the inode of
// the one before.
func (o mkdevOptions) identity(image []byte) (string, error) {
	if o.overlay.file == "" {
		return identityPrefix + hex.EncodeToString(image), nil
	}
	path, err := filepath.Abs(o.overlay.file)
	if err != nil {
		return "", fmt.Errorf("--overlay: %w", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("--overlay: %w", err)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("--overlay: %s: %w", path, err)
	}
	// File systems that know no birth say 0.
	sum := sha256.Sum256(fmt.Appendf(nil, "%x %d:%d %d %d.%09d %s", image, st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec, path))
	return identityPrefix + hex.EncodeToString(sum[:]), nil
}
