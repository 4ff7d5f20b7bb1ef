package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"caravel/store/http"
	"caravel/store/local"
	"caravel/store/open"
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

// canWrite finds out whether putFile could write a file, if one is named, by
// making another one beside it.
func canWrite(path string) error {
	if path == "" {
		return nil
	}
	if err := canPut(path); err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil {
		if !st.Mode().IsRegular() {
			return nil
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".#"+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// canPutAt is canPut for a location. Whether a server takes files shows when it is
// given one.
func canPutAt(location string) error { return checkPlace(location, canPut) }

// canWriteAt is canWrite for a location.
func canWriteAt(location string) error {
	if location == "" {
		return nil
	}
	return checkPlace(location, canWrite)
}

func checkPlace(location string, check func(path string) error) error {
	if _, _, err := open.Putter(location, open.Options{}); err != nil {
		return err
	}
	if path := pathOf(location); path != "" {
		return check(path)
	}
	return nil
}

// putAt puts a file at a location: as putFile on this machine, by where behind a
// network.
func putAt(ctx context.Context, location string, content []byte, opt local.Options, where open.Options) error {
	if path := pathOf(location); path != "" {
		return putFile(ctx, path, bytes.NewReader(content), opt)
	}
	return open.Put(ctx, location, content, where)
}

// writeOptions are for a command that writes to places behind a network, and gives
// up after timeout; 0: never.
func writeOptions(timeout time.Duration, log *slog.Logger) open.Options {
	return open.Options{
		HTTP:    http.Options{Client: http.NewClient(http.Options{}), Stall: stall(timeout)},
		Log:     log,
		Timeout: forEver(timeout),
	}
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
			return putInto(ctx, path, r)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	dir, name := filepath.Split(path)
	return local.New(dir, opt).Put(ctx, name, r, -1)
}

// putPrinted is putFile of what print prints. An error of print is returned as it is:
// it is not the file's fault.
func putPrinted(ctx context.Context, path string, opt local.Options, print func(io.Writer) error) error {
	r, w := io.Pipe()
	var printing sync.WaitGroup
	var failed error
	printing.Go(func() {
		failed = print(w)
		w.CloseWithError(failed)
	})
	err := putFile(ctx, path, r, opt)
	r.CloseWithError(err)
	printing.Wait()
	if err != nil && failed != nil && errors.Is(err, failed) {
		return failed
	}
	return err
}

func putInto(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.Close() }) // ends a write that waits for a pipe's reader
	defer stop()
	_, err = io.Copy(f, r)
	return cmp.Or(context.Cause(ctx), err, f.Close())
}
