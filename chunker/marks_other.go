//go:build !amd64

package chunker

const wide = false

func mark(*uint64, *byte, int, *constants) { panic("chunker: not on this processor") }
