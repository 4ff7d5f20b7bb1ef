package testtree

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// sizes are those around the limits of pages, of chunks and of what is read in
// one go.
var sizes = []int64{
	0, 0, 0, 1, 2, 47, 48, 511, 512, 4095, 4096, 4097, 16383, 16384, 16385,
	65535, 65536, 65537, 131072, 262143, 262144, 262145, 1<<20 - 1, 1 << 20, 1<<20 + 1,
}

// size is that of the next file, within what is left of the tree's bytes.
func (g *generator) size() int64 {
	n := pick(g, sizes)
	if g.one(2) {
		n = int64(g.rng.ExpFloat64() * 6000)
	}
	n = min(n, g.bytes)
	g.bytes -= n
	return n
}

// content writes a file's bytes.
func (g *generator) content(fd int) error {
	size := g.size()
	switch g.rng.IntN(5) {
	case 0:
		return writeAt(fd, g.text(size), 0)
	case 1:
		return g.sparse(fd, size)
	case 2: // long equal runs, so that chunks repeat
		return writeAt(fd, []byte(strings.Repeat("0123456789abcdef", int(size)/16+1)[:size]), 0)
	case 3:
		if g.one(3) { // zeros that are no hole
			return writeAt(fd, make([]byte, size), 0)
		}
	}
	return writeAt(fd, g.noise(size), 0)
}

// noise is random bytes.
func (g *generator) noise(n int64) []byte {
	b := make([]byte, n+8)
	src := rand.NewPCG(g.rng.Uint64(), g.rng.Uint64())
	for i := int64(0); i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], src.Uint64())
	}
	return b[:n]
}

// text is words and lines.
func (g *generator) text(n int64) []byte {
	words := []string{"chunk ", "index ", "store ", "seed\n", "hole ", "image\n", "a ", "entry\t"}
	b := make([]byte, 0, n+8)
	for int64(len(b)) < n {
		b = append(b, pick(g, words)...)
	}
	return b[:n]
}

// sparse writes a file that is mostly holes, sometimes nothing else, sometimes
// with one at its end. Holes are longer than other content: they cost nothing.
func (g *generator) sparse(fd int, size int64) error {
	length := size + g.rng.Int64N(1<<20)
	if err := unix.Ftruncate(fd, length); err != nil {
		return err
	}
	for n := g.rng.IntN(4); n > 0 && size > 0; n-- {
		piece := g.noise(1 + g.rng.Int64N(min(size, 8192)))
		if err := writeAt(fd, piece, g.rng.Int64N(length-int64(len(piece))+1)); err != nil {
			return err
		}
	}
	return nil
}

func writeAt(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
