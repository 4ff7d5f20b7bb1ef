package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"caravel/store/local"
)

// writePIDFile puts the number of this process into a file, "" for none, which
// has its name when it is complete. remove removes it, unless it is another
// process's by then.
func writePIDFile(ctx context.Context, path string) (remove func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	mine := fmt.Sprintln(os.Getpid())
	if err := putFile(ctx, path, strings.NewReader(mine), local.Options{}); err != nil {
		return nil, fmt.Errorf("--pid-file: %w", err)
	}
	return func() error {
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(now, []byte(mine)) {
			return nil
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("--pid-file: %w", err)
		}
		return nil
	}, nil
}
