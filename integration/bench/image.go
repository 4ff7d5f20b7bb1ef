//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// diskImage makes an ext4 file system of size bytes at path, two thirds full of
// files of this machine.
func diskImage(path, files string, size int64) error {
	if err := fill(files, size*2/3); err != nil {
		return err
	}
	defer os.RemoveAll(files)
	mkfs := exec.Command("mkfs.ext4", "-q", "-F", "-d", files, path, fmt.Sprint(size>>10))
	mkfs.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

var errEnough = errors.New("enough")

// fill copies files of this machine to dir until there are size bytes.
func fill(dir string, size int64) error {
	most := size / 16 // a larger file would decide all by itself, or not fit
	for _, from := range []string{"/usr/lib", "/usr/bin", "/usr/share", "/usr/local", "/opt"} {
		err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil // what cannot be read is not copied
			}
			if st, err := e.Info(); err != nil || st.Size() > most {
				return nil
			}
			n, err := copyFile(filepath.Join(dir, path), path)
			if size -= n; size <= 0 {
				return errEnough
			}
			return err
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, nil
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}
