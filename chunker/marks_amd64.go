package chunker

import "golang.org/x/sys/cpu"

// wide is whether this processor has what mark needs.
var wide = cpu.X86.HasAVX512F

// mark looks at 16 bytes a block, at least one block, and writes a bit for each byte: whether
// the window that ends there marks a cut. The first 47 bits are those of windows that are
// not whole, and mean nothing.
//
//go:noescape
func mark(to *uint64, from *byte, blocks int, k *constants)
