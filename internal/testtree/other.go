//go:build !linux

package testtree

import (
	"errors"
	"math/rand/v2"
	"testing"

	"caravel/feature"
)

// Generate skips the test: trees are made on Linux only.
func Generate(t testing.TB, dir string, rng *rand.Rand, opt Options) {
	t.Helper()
	t.Skip("testtree: only on Linux")
}

// Diff is there on Linux only.
func Diff(a, b string, f feature.Flags) ([]string, error) {
	return nil, errors.New("testtree: only on Linux")
}

// Thaw is there on Linux only.
func Thaw(dir string) error { return errors.New("testtree: only on Linux") }
