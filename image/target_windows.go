package image

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// openLocked opens or makes an unfinished file. Windows itself refuses to
// remove or rename a file that another process has open.
func openLocked(name string, mode fs.FileMode, _ fs.FileInfo) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, mode)
}

func inheritOwner(*os.File, fs.FileInfo) error { return nil }

// publish closes the complete file and gives it its final name: an open file
// cannot be renamed here.
func publish(f *os.File, part, path string) error {
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// syncDir does nothing: Windows has no handle of a folder that can be synced.
func syncDir(string) error { return nil }

func isDiskFull(err error) bool { return errors.Is(err, windows.ERROR_DISK_FULL) }
