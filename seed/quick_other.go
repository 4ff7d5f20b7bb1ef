//go:build !unix

package seed

const openQuick = 0
