//go:build !race

package store

const poisoned = false
