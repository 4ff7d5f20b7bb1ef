package multisum

import "golang.org/x/sys/cpu"

// lanes is how many messages a pass takes at a time.
const lanes = 8

// wide is whether this processor has what blocks needs.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW

// blocks hashes n blocks, at least one, of each lane, from next on. state and what next
// leads to are read and written as far as that goes, and not beyond.
//
//go:noescape
func blocks(state *[8][lanes]uint64, next *[lanes]*byte, n int, constants *[80]uint64)
