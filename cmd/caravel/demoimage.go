package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// What the demo packs: enough to be worth not downloading, little enough to be
// made in a second.
const (
	demoBytes = 48 << 20
	demoFile  = 8 << 20 // a larger file is left out
)

// demoImage makes a disk image at path: an ext4 file system where mkfs.ext4 is
// installed (it needs no root for a file), else a tar archive. The files are
// copied to files first. It returns what it made, for people.
func demoImage(ctx context.Context, path, files string) (string, error) {
	count, size, err := gather(ctx, files)
	if err != nil {
		return "", err
	}
	mkfs := mkfsPath()
	if mkfs == "" {
		return fmt.Sprintf("a tar archive of %d files", count), tarImage(path, files)
	}
	blocks := fmt.Sprint((size + size/4 + 16<<20) >> 10)
	cmd := exec.CommandContext(ctx, mkfs, "-q", "-F", "-L", "caravel-demo", "-d", files, path, blocks)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", mkfs, err, out)
	}
	return fmt.Sprintf("an ext4 file system with %d files", count), nil
}

// mkfsPath finds mkfs.ext4 also where only root's PATH leads; "" if there is none.
func mkfsPath() string {
	for _, name := range []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// gather copies files that any user may read into dir, up to demoBytes.
func gather(ctx context.Context, dir string) (count int, size int64, err error) {
	enough := errors.New("enough")
	for _, from := range []string{"/usr/bin", "/usr/lib", "/usr/share", os.Getenv("SystemRoot")} {
		if from == "" {
			continue
		}
		err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil || !e.Type().IsRegular() {
				return nil // what cannot be read is not packed
			}
			st, err := e.Info()
			if err != nil || st.Size() > demoFile {
				return nil
			}
			name := filepath.Join(dir, filepath.Base(from), e.Name())
			if copyFile(name, path) != nil {
				return nil
			}
			count, size = count+1, size+st.Size()
			if size >= demoBytes {
				return enough
			}
			return nil
		})
		if errors.Is(err, enough) {
			return count, size, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if count == 0 {
		return 0, 0, errors.New("no files found to make an image of")
	}
	return count, size, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// tarImage packs a folder as a disk that has only ever been written in order.
func tarImage(path, files string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = w.AddFS(os.DirFS(files))
	return errors.Join(err, w.Close(), f.Close())
}
