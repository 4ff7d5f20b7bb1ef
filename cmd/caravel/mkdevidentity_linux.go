package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const identityPrefix = "caravel:"

// identity is what tells the disk behind a device from others, for whoever goes on
// with it: below what is mounted the same bytes have to stay. It is the image's, or
// with an overlay, which is there already, a digest of that and of which file this
// is: where it lies, links followed, and its inode, as one that is begun anew under
// the same name is another disk.
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
	st, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("--overlay: %w", err)
	}
	inode := st.Sys().(*syscall.Stat_t).Ino
	sum := sha256.Sum256(fmt.Appendf(nil, "%x %d %s", image, inode, path))
	return identityPrefix + hex.EncodeToString(sum[:]), nil
}
