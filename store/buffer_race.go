//go:build race

package store

// poisoned: tests under the race detector notice who uses what he has freed.
const poisoned = true
