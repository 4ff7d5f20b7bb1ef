package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"caravel/store/local"
)

// canPut says why putFile could not write to path, as far as that shows before
// the work of which it is the end.
func canPut(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("%s: is a directory", path)
	}
	return nil
}

// putFile writes what r gives to a file, which appears under its name when it
// is complete. A symbolic link is followed, and a device or pipe is written
// into: it is nothing that a file could take the place of.
func putFile(ctx context.Context, path string, r io.Reader, opt local.Options) error {
	if err := canPut(path); err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil {
		if !st.Mode().IsRegular() {
			return putInto(path, r)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	dir, name := filepath.Split(path)
	return local.New(dir, opt).Put(ctx, name, r, -1)
}

func putInto(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
