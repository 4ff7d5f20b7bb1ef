//go:build !linux

package restore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"caravel/catar"
	"caravel/feature"
)

// Tree restores a tree; only on Linux.
func Tree(_ context.Context, _ *catar.Decoder, dir string, _ Options) (Stats, error) {
	return Stats{}, unsupported(dir)
}

// Node restores a node; only on Linux.
func Node(_ context.Context, _ *catar.Decoder, dir, _ string, _ Options) (Stats, error) {
	return Stats{}, unsupported(dir)
}

// Plan says what Tree would do; only on Linux.
func Plan(dir string, _ feature.Flags, _ iter.Seq2[Planned, error], _ Options, _ func(string, Action)) error {
	return unsupported(dir)
}

func unsupported(dir string) error {
	return fmt.Errorf("restore: %s: trees can be restored on Linux only: %w", dir, errors.ErrUnsupported)
}
