package tarball

import (
	"os"

	"golang.org/x/sys/unix"
)

// unnamed makes a temporary file that is gone when it is closed, whatever becomes
// of the process.
func unnamed(dir string) (f *os.File, name string, err error) {
	f, err = os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE|os.O_EXCL, 0o600)
	if err != nil {
		return named(dir) // not every file system has such
	}
	return f, "", nil
}
