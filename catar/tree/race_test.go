//go:build race

package tree_test

// raced says that the race detector runs, which takes memory of its own, and
// makes everything ten times slower.
const raced = true
