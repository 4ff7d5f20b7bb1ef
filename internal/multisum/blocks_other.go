//go:build !amd64

package multisum

const lanes = 8

// wide is whether there is an assembly of blocks.
const wide = false

func blocks(*[8][lanes]uint64, *[lanes]*byte, int, *[80]uint64) {
	panic("multisum: not on this processor")
}
